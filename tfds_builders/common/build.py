"""Building a data set from within another program."""

import contextlib
import io
import sys
from pathlib import Path

import tensorflow_datasets as tfds


def build(builder: tfds.core.DatasetBuilder, manual_dir: Path) -> None:
    """Builds a data set from the files of a folder; prints nothing to stdout.

    A start in another process may finish the same data set first; either copy is kept.

    Raises:
      InputError: the files cannot be built from.
      OSError: the data set cannot be written.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except OSError:
        if not builder.is_prepared():
            raise
