import shlex

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import HELD_OUT, select_examples
from animesion_jax.data.train_data import TrainData
from animesion_jax.errors import InputError
from tests.data.images import all_encoded_images, encoded_images


def test_parts_are_read_in_stored_order_and_whole_splits_interleaved(held_out_config, dataset):
    encoded = {"image": tfds.decode.SkipDecoding()}
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    stored = list(dataset.builder.as_dataset("train", decoders=encoded, read_config=in_order).as_numpy_iterator())
    np.testing.assert_array_equal(dataset.examples("train").labels(), [record["label"] for record in stored])
    held = select_examples(held_out_config, dataset, HELD_OUT)
    np.testing.assert_array_equal(held.labels(), [stored[index]["label"] for index in held.indices])
    assert encoded_images(held.records(50, 120)) == [stored[index]["image"] for index in held.indices[50:120]]
    assert encoded_images(held.records(30, 30)) == []
    interleaved = encoded_images(dataset.builder.as_dataset("train", decoders=encoded))
    assert all_encoded_images(dataset.examples("train")) == interleaved != [record["image"] for record in stored]


def test_data_dir_may_have_brackets_in_its_name(toyfaces_dir, dataset, tmp_path):
    (tmp_path / "data [1]").symlink_to(toyfaces_dir)
    assert load_dataset("toyfaces", str(tmp_path / "data [1]")).class_names == dataset.class_names
    with pytest.raises(InputError, match=r"'dafre' is not built in .*/data \[1\] \(there: toyfaces\); build it: .*"):
        load_dataset("dafre", str(tmp_path / "data [1]"))


def test_suggested_build_command_is_quoted_for_a_shell(tmp_path):
    with pytest.raises(InputError) as caught:
        load_dataset("toyfaces", str(tmp_path / "a b'[1]"))
    words = shlex.split(str(caught.value).partition("build it: animesion ")[2])
    assert words == ["build", "--num_shards=4", f"--data_dir={tmp_path}/a b'[1]", "toyfaces"]


def test_all_data_is_read_without_autotuning(toy_config, dataset, monkeypatch):
    # The autotuning thread delays the end of an epoch too rarely to measure here: check the option.
    read, as_numpy_iterator = [], tf.data.Dataset.as_numpy_iterator
    monkeypatch.setattr(
        tf.data.Dataset, "as_numpy_iterator", lambda self: (read.append(self.options()), as_numpy_iterator(self))[1]
    )
    for cache in ("decoded", "encoded", "none"):
        toy_config.data.cache = cache
        next(TrainData(toy_config, dataset).batches())
    next(EvalData(toy_config, dataset, "test").batches())
    toy_config.held_out = 0.5  # reads the labels
    select_examples(toy_config, dataset, "train").count_labels(1, 0)
    assert len(read) >= 3 + 1 + 1 + 1
    assert [options.autotune.enabled for options in read] == [False] * len(read)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("moeimouto", ["'moeimouto' is not", "allowed: moeimouto/kaggle"]),
        ("dafre/min20", ["build --manual_dir=MANUAL --data_dir=", " dafre/min20", "there: moeimouto"]),
        ("dafre/min20_skip", ["build --manual_dir=MANUAL --data_dir=", " --skip_broken dafre/min20"]),
        ("mnist", ["'mnist' is not", "or one of dafre, moeimouto, toyfaces"]),
    ],
)
def test_load_dataset_says_how_to_build_a_missing_data_set(tmp_path, name, words):
    info = tmp_path / "moeimouto" / "kaggle" / "1.0.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.touch()
    with pytest.raises(InputError) as error:
        load_dataset(name, str(tmp_path))
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message, message
