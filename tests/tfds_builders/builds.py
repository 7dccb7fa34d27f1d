"""Data sets that tests build and read back."""

import tensorflow_datasets as tfds


def build(builder_class, manual, data_dir, config=None):
    """Returns a builder whose data set is built from a manual folder."""
    builder = builder_class(config=config, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return builder


def encoded_examples(builder, split, **options):
    """Returns the examples of a split with the stored bytes of their images."""
    decoders = {"image": tfds.decode.SkipDecoding()}
    return list(builder.as_dataset(split, decoders=decoders, **options).as_numpy_iterator())
