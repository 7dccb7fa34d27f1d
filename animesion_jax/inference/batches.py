"""Image files through a function in batches of one size: threads decode while the function computes."""

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

# Decoded images wait in memory for so many batches, no more, however many files there are.
BATCHES_AHEAD = 2

Entries = list[tuple[Path, int | InputError]]


def apply_to_files(
    function: Callable[[np.ndarray], jax.Array], files: Sequence[Path], size: int, batch_size: int
) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    """Yields each file in order with the function's output for its image, or with what is wrong with the file.

    Args:
      function: (batch_size, size, size, 3) uint8 -> (batch_size, ...); the last batch is filled up with zeros, so that
        it is compiled once.
      files: images of any size.
      size: side of the square that they are resized to, pixels.
      batch_size: images per call.
    """
    before: tuple[Entries, jax.Array] | None = None
    for entries, images in _batches(files, size, batch_size):
        # Calls return before they are done: the next one is on its way while the outputs of this one are read.
        now = (entries, function(images))
        if before:
            yield from _outputs(*before)
        before = now
    if before:
        yield from _outputs(*before)


def _outputs(entries: Entries, outputs: jax.Array) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    rows = np.asarray(outputs)
    for file, place in entries:
        yield file, place if isinstance(place, InputError) else rows[place]


def _batches(files: Sequence[Path], size: int, batch_size: int) -> Iterator[tuple[Entries, np.ndarray]]:
    """Yields batches of images, with each file's place in its batch or fault; a batch may have no image at all."""
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
            # A new array: the device may still be reading the old one.
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
            # Whoever stops early does not wait for what was still to be decoded.
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(file: Path, size: int) -> np.ndarray | InputError:
    try:
        return resize(read_image(file), size)
    except InputError as error:
        return error
