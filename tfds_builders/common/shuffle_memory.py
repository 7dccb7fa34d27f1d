"""How much of a split TFDS holds in memory before it shuffles the rest through files beside the data set."""

import contextlib
from collections.abc import Iterator

from tensorflow_datasets.core import shuffle

# TFDS holds 1000 MiB, more than half of a build's peak. The order of the records is the same with any limit.
MAX_BYTES = 64 * 2**20


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Makes TFDS hold at most 64 MiB of the examples that are written within."""
    usual = shuffle.MAX_MEM_BUFFER_SIZE
    shuffle.MAX_MEM_BUFFER_SIZE = MAX_BYTES
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = usual
