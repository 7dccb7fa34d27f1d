"""Data sets that tests build and read back."""

import numpy as np
import pytest
import tensorflow_datasets as tfds


def build(builder_class, manual, data_dir, config=None):
    """Returns a builder whose data set is built from a manual folder."""
    builder = builder_class(config=config, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return builder


def assert_build_is_refused(builder_class, manual, data_dir, match, words):
    """Asserts that a build fails with an error that matches and has all the words, and leaves no data set."""
    with pytest.raises(ValueError, match=match) as error:
        build(builder_class, manual, data_dir)
    for each in words:
        assert each in str(error.value)
    assert not list(data_dir.rglob("dataset_info.json"))


def encoded_examples(builder, split, **options):
    """Returns the examples of a split with the stored bytes of their images."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    return list(builder.as_dataset(split, decoders=decoders, **options).as_numpy_iterator())


def split_records(folder, split):
    """Returns the records of a split of a built data set, in order: the bytes of every feature by name."""
    examples = encoded_examples(tfds.builder_from_directory(folder), split, shuffle_files=False)
    return [{name: np.asarray(value).tobytes() for name, value in example.items()} for example in examples]
