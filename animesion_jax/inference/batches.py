"""Applies a function to image files in batches of one size; threads decode the next files meanwhile."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.preprocessing import resize

# Most batches of decoded images that wait in memory.
BATCHES_AHEAD = 2

Entries = list[tuple[Path, int | InputError]]


def apply_to_files(
    function: Callable[[np.ndarray], jax.Array], files: Sequence[Path], size: int, batch_size: int
) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    """Yields each file in order with the function's output for its image, or with the error of reading it.

    Args:
      function: maps (batch_size, size, size, 3) uint8 to (batch_size, ...). Zeros fill up the last batch, so that it is
        compiled once.
      files: images of any size.
      size: side in pixels of the square that the images are resized to.
      batch_size: images per call.
    """
    previous: tuple[Entries, jax.Array] | None = None
    for entries, images in _batches(files, size, batch_size):
        # Dispatch is asynchronous: read the previous outputs after the next call has started.
        current = (entries, function(images))
        if previous:
            yield from _outputs(*previous)
        previous = current
    if previous:
        yield from _outputs(*previous)


def _outputs(entries: Entries, outputs: jax.Array) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    rows = np.asarray(outputs)
    for file, place in entries:
        yield file, place if isinstance(place, InputError) else rows[place]


def _batches(files: Sequence[Path], size: int, batch_size: int) -> Iterator[tuple[Entries, np.ndarray]]:
    """Yields batches of images, and for each file its index in the batch or its error; a batch may have no image."""
    images, entries, filled = np.zeros((batch_size, size, size, 3), np.uint8), [], 0
    for file, pixels in _decoded(files, size, ahead=BATCHES_AHEAD * batch_size):
        if isinstance(pixels, InputError):
            entries.append((file, pixels))
        else:
            images[filled] = pixels
            entries.append((file, filled))
            filled += 1
        if filled == batch_size or len(entries) == BATCHES_AHEAD * batch_size:
            yield entries, images
            # Take a new array, because the device may still read the old one.
            images, entries, filled = np.zeros_like(images), [], 0
    if entries:
        yield entries, images


def _decoded(files: Sequence[Path], size: int, ahead: int) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    waiting: deque[tuple[Path, Future]] = deque()
    left = iter(files)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        try:
            waiting.extend((file, pool.submit(_decode, file, size)) for file in islice(left, ahead))
            while waiting:
                file, future = waiting.popleft()
                yield file, future.result()
                waiting.extend((file, pool.submit(_decode, file, size)) for file in islice(left, 1))
        finally:
            # A caller that stops early does not wait for the files left.
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(file: Path, size: int) -> np.ndarray | InputError:
    try:
        return resize(read_image(file), size)
    except InputError as error:
        return error
