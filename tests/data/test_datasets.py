import csv
import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds

from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.decode import decoded
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import HELD_OUT, hold_out, select_examples
from animesion_jax.data.train_data import TrainData
from animesion_jax.errors import InputError
from animesion_jax.training.evaluate import evaluate
from animesion_jax.training.train import train
from animesion_jax.workdir.metrics_log import read_rows

# toyfaces' train images by class, and their eighths: 24.5, 21.25, 18.5, ... with halves rounded up.
TRAIN_SIZES = [196, 170, 148, 128, 112, 98, 84, 74, 64, 56, 49, 42, 37, 32, 28, 24, 21, 18, 16, 14]
HELD_OUT_SIZES = [25, 21, 19, 16, 14, 12, 11, 9, 8, 7, 6, 5, 5, 4, 4, 3, 3, 2, 2, 2]


@pytest.fixture(scope="module")
def dataset(toyfaces_dir):
    return load_dataset("toyfaces", str(toyfaces_dir))


@pytest.fixture
def held_out_config(toy_config):
    toy_config.held_out = 0.125
    return toy_config


def _encoded(records):
    return [record["image"] for record in records.as_numpy_iterator()]


def _all(examples):
    return _encoded(examples.records(0, examples.num_examples))


def _seen(batches):
    return [image.tobytes() for batch in batches for image in batch["image"][batch["mask"] > 0]]


def _decoded(examples, size):
    records = decoded(examples.records(0, examples.num_examples), size)
    return [record["image"].tobytes() for record in records.as_numpy_iterator()]


def test_hold_out_takes_hand_counted_numbers_of_every_class():
    sizes = np.asarray([1, 2, 3, 4, 8, 11, 12, 20, 50])
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(9), sizes))
    for part, expected in [
        (0.125, [0, 0, 0, 1, 1, 1, 2, 3, 6]),  # of 4, 12 and 20 half an image more is a whole one
        (0.29, [0, 1, 1, 1, 2, 3, 3, 6, 15]),  # 50 * 0.29 is 14.5, if not in binary
        (0.99, [0, 1, 2, 3, 7, 10, 11, 19, 49]),  # one image of every class stays
        (0.0, [0] * 9),
    ]:
        np.testing.assert_array_equal(np.bincount(labels[hold_out(labels, part)], minlength=9), expected)


def test_hold_out_of_a_class_depends_on_its_own_images_alone():
    alone = hold_out(np.full(40, 3), 0.25)
    labels = np.random.default_rng(5).permutation(np.repeat([0, 3, 7], [33, 40, 60]))
    np.testing.assert_array_equal(hold_out(labels, 0.25)[labels == 3], alone)
    assert not np.array_equal(hold_out(np.full(40, 4), 0.25), alone)
    assert 0 < np.diff(np.flatnonzero(alone)).max() < 30  # scattered, no block at either end


def test_the_parts_of_a_split_are_disjoint_and_make_up_the_whole(held_out_config, dataset):
    kept = select_examples(held_out_config, dataset, "train")
    held = select_examples(held_out_config, dataset, HELD_OUT)
    whole = _encoded(dataset.examples("train").records(0, 1411))
    assert len(set(whole)) == len(whole) == 1411
    assert sorted(_all(kept) + _all(held)) == sorted(whole)
    np.testing.assert_array_equal(np.bincount(held.labels()), HELD_OUT_SIZES)
    np.testing.assert_array_equal(np.bincount(kept.labels()), np.asarray(TRAIN_SIZES) - HELD_OUT_SIZES)
    assert (kept.num_examples, held.num_examples) == (1411 - 178, 178)
    num_bytes = dataset.builder.info.splits["train"].num_bytes
    assert dataset.examples("train").num_bytes == num_bytes
    assert held.num_bytes == num_bytes * 178 // 1411
    assert np.all(np.diff(kept.places) > 0) and np.all(np.diff(held.places) > 0)


def test_a_split_that_is_not_there_names_the_held_out_part_where_there_is_one(held_out_config, dataset):
    with pytest.raises(InputError, match=r"no split 'dev'; allowed: train, validation, test, held_out$"):
        select_examples(held_out_config, dataset, "dev")
    held_out_config.held_out = 0.0
    with pytest.raises(InputError, match=r"no split 'dev'; allowed: train, validation, test$"):
        select_examples(held_out_config, dataset, "dev")


def test_seeds_share_the_held_out_images(held_out_config, dataset):
    one = select_examples(held_out_config, dataset, HELD_OUT).places
    held_out_config.seed = 7
    np.testing.assert_array_equal(select_examples(held_out_config, dataset, HELD_OUT).places, one)


def test_labels_and_records_are_those_of_the_places_in_stored_order(held_out_config, dataset):
    """A part has the shards one after the other, the whole as TFDS interleaves them."""
    encoded = {"image": tfds.decode.SkipDecoding()}
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    stored = list(dataset.builder.as_dataset("train", decoders=encoded, read_config=in_order).as_numpy_iterator())
    np.testing.assert_array_equal(dataset.examples("train").labels(), [record["label"] for record in stored])
    held = select_examples(held_out_config, dataset, HELD_OUT)
    np.testing.assert_array_equal(held.labels(), [stored[place]["label"] for place in held.places])
    assert _encoded(held.records(50, 120)) == [stored[place]["image"] for place in held.places[50:120]]
    assert _encoded(held.records(30, 30)) == []
    interleaved = _encoded(dataset.builder.as_dataset("train", decoders=encoded))
    assert _all(dataset.examples("train")) == interleaved != [record["image"] for record in stored]


@pytest.mark.parametrize("read_groups", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cache", ["decoded", "encoded", "none"])
def test_no_held_out_image_is_ever_trained_on(held_out_config, dataset, cache, read_groups):
    config = held_out_config
    config.image_size, config.data.cache, config.data.read_groups = 32, cache, read_groups  # at 40 px no two are alike
    held = select_examples(config, dataset, HELD_OUT)
    forbidden = set(_decoded(held, 40))
    data = TrainData(config, dataset)
    assert data.steps_per_epoch == (1411 - 178) // 64 == 19
    epochs = [_seen(itertools.islice(data.batches(start), 19)) for start in (0, 19)]
    for seen in epochs:
        assert len(set(seen)) == len(seen) == 19 * 64
    assert len(forbidden) == 178 and not forbidden & set(epochs[0] + epochs[1])


def test_two_hosts_read_the_halves_of_the_batches_of_a_part(held_out_config, dataset):
    held_out_config.data.cache = "none"
    whole = list(itertools.islice(TrainData(held_out_config, dataset).batches(), 3))
    hosts = [TrainData(held_out_config, dataset, num_hosts=2, host=host).batches() for host in (0, 1)]
    for batch, one, other in zip(whole, *hosts, strict=False):
        np.testing.assert_array_equal(batch["image"], np.concatenate([one["image"], other["image"]]))


@pytest.mark.parametrize("num_hosts", [1, 3])
def test_the_held_out_part_is_evaluated_once_and_wholly(held_out_config, dataset, num_hosts):
    held_out_config.image_size = 40
    hosts = [EvalData(held_out_config, dataset, HELD_OUT, num_hosts=num_hosts, host=h) for h in range(num_hosts)]
    held = select_examples(held_out_config, dataset, HELD_OUT)
    seen = [image for host in hosts for image in _seen(host.batches())]
    assert sorted(seen) == sorted(_decoded(held, 40))


def test_a_host_without_a_share_pads(toy_config, dataset):
    toy_config.held_out = 0.008  # two images of 196, one of 170, 148, ... 64, none of 56
    toy_config.eval_batch_size = 12
    hosts = [EvalData(toy_config, dataset, HELD_OUT, num_hosts=12, host=host) for host in range(12)]
    masks = [[batch["mask"].sum() for batch in host.batches()] for host in hosts]
    assert np.shape(masks) == (12, 1) and np.sum(masks) == 10


@pytest.mark.slow
def test_training_validates_on_the_held_out_part_and_evaluate_repeats_it(held_out_config, tmp_path):
    held_out_config.validation_split, held_out_config.epochs = HELD_OUT, 1
    train(held_out_config, str(tmp_path))
    again = evaluate(str(tmp_path), HELD_OUT, per_class=True, output=str(tmp_path / "new" / "classes.csv"))
    (row,) = [row for row in read_rows(str(tmp_path)) if row["split"] == "validation"]
    assert again["examples"] == row["examples"] == 178
    assert again["loss"] == pytest.approx(row["loss"], rel=1e-6)
    with (tmp_path / "new" / "classes.csv").open() as file:
        counts = [(int(row["train_images"]), int(row["test_images"])) for row in csv.DictReader(file)]
    assert counts == [(of - held, held) for of, held in zip(TRAIN_SIZES, HELD_OUT_SIZES, strict=True)]
    assert evaluate(str(tmp_path), "train")["examples"] == 1411 - 178


def test_bad_input_is_named(toy_config, dataset, tmp_path):
    def select(split, held_out):
        toy_config.held_out = held_out
        return select_examples(toy_config, dataset, split)

    info = tmp_path / "moeimouto" / "kaggle" / "1.0.0" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.touch()
    cases = [
        (lambda: load_dataset("moeimouto", str(tmp_path)), ["'moeimouto' is not", "allowed: moeimouto/kaggle"]),
        (
            lambda: load_dataset("dafre/min20", str(tmp_path)),
            ["dafre/min20", "tfds build --config=min20", "there: moeimouto"],
        ),
        (lambda: select("val", 0.0), ["'val'", "validation, test"]),
        (lambda: select(HELD_OUT, 0.0), ["'train'", "held_out is 0", "validation, test", "--config.held_out"]),
        (lambda: select("train", 1.0), ["config.held_out is 1.0", "less than 1"]),
        (lambda: select("test", -0.1), ["config.held_out is -0.1"]),
        (lambda: select("val", 0.5), ["'val'", "test, held_out"]),
        (lambda: select(HELD_OUT, 0.002), ["0.002", "toyfaces 'train'", "196 images"]),
        (lambda: select("train", 0.002), ["0.002", "holds out no image"]),
    ]
    for call, words in cases:
        with pytest.raises(InputError) as error:
            call()
        assert all(word in str(error.value) for word in words), error.value
        assert "\n" not in str(error.value)
