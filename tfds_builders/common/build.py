"""Building a data set from within another program."""

import contextlib
import io
import logging
import sys
from pathlib import Path

import tensorflow_datasets as tfds

from animesion_jax.errors import InputError, first_line

log = logging.getLogger(__name__)


def is_built(builder: tfds.core.DatasetBuilder) -> bool:
    """Returns whether a builder's data set is complete; TFDS's own check takes brackets in a path for a pattern."""
    return (builder.data_path / tfds.core.constants.DATASET_INFO_FILENAME).exists()


def build(
    builder: tfds.core.DatasetBuilder, manual_dir: str | Path | None = None, num_shards: int | None = None
) -> None:
    """Builds a data set; prints nothing to stdout.

    Another process may finish the same data set first; one of the two copies is kept. A killed build leaves a folder
    "incomplete.SOMETHING", which no reader takes for a data set; the next build logs its path.

    Args:
      builder: of a data set that is not built yet.
      manual_dir: folder of the files that the builder reads; None for a builder that reads none.
      num_shards: files per split, 1 or more; None lets TFDS choose by size.

    Raises:
      InputError: the files cannot be built from, a split has fewer examples than shards, or the folder of the data set
        exists without a data set in it.
      OSError: the data set cannot be written.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder = builder.data_path.parent
    # Do not glob: brackets in a name would be a pattern.
    for path in folder.iterdir() if folder.exists() else ():
        if path.name.startswith("incomplete.") and path.name.endswith(f"_{builder.version}"):
            log.info("%s is from a build that was killed or is still running; remove it if no build is running", path)
    settings = tfds.download.DownloadConfig(manual_dir=manual_dir, num_shards=num_shards)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare(download_config=settings)
    except OSError:
        if not is_built(builder):
            raise
    except AssertionError as error:
        if "number_of_shards" not in str(error):
            raise
        raise InputError(f"{first_line(error)}; give fewer shards") from error
    if not is_built(builder):
        # TFDS takes any folder at this path for the data set.
        raise InputError(f"{builder.data_path} holds no complete data set; remove it, and try again")
