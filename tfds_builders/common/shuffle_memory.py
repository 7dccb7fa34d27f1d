"""Memory that TFDS uses to shuffle a split before it spills to files beside the data set."""

import contextlib
from collections.abc import Iterator

from tensorflow_datasets.core import shuffle

# TFDS defaults to 1000 MiB, more than half of a build's peak. The limit does not change the order of records.
MAX_BYTES = 64 * 2**20


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Limits TFDS to 64 MiB for the examples written in the block."""
    default = shuffle.MAX_MEM_BUFFER_SIZE
    shuffle.MAX_MEM_BUFFER_SIZE = MAX_BYTES
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = default
