"""Applies a function to image files in batches of one size; threads decode the next files meanwhile."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import jax
import numpy as np

from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.preprocessing import resize

# Most batches of decoded images that wait in memory.
BATCHES_AHEAD = 2

Output = tuple[Path, np.ndarray | InputError]


def apply_to_files(
    function: Callable[[np.ndarray], jax.Array], files: Sequence[Path], size: int, fit: str, batch_size: int
) -> Iterator[Output]:
    """Yields each file in order with the function's output for its image, or with the error of reading it.

    Args:
      function: maps (batch_size, size, size, 3) uint8 to (batch_size, ...). Zeros stand in for unreadable images and
        fill up the last batch, so that it is compiled once.
      files: images of any size.
      size, fit: side in pixels of the square that the images are resized to, and how, as in `preprocessing.resize`.
      batch_size: images per call.
    """
    decoded = _decoded(files, partial(_decode, size=size, fit=fit), ahead=BATCHES_AHEAD * batch_size)
    previous: tuple[list[Output], jax.Array] | None = None
    while batch := list(islice(decoded, batch_size)):
        images = np.zeros((batch_size, size, size, 3), np.uint8)
        for image, (_, pixels) in zip(images, batch, strict=False):
            if not isinstance(pixels, InputError):
                image[:] = pixels
        # Dispatch is asynchronous: read the previous outputs after the next call has started.
        current = (batch, function(images))
        if previous:
            yield from _outputs(*previous)
        previous = current
    if previous:
        yield from _outputs(*previous)


def _outputs(batch: list[Output], outputs: jax.Array) -> Iterator[Output]:
    for (file, pixels), row in zip(batch, np.asarray(outputs), strict=False):
        yield file, pixels if isinstance(pixels, InputError) else row


def _decoded(files: Sequence[Path], decode: Callable[[Path], np.ndarray | InputError], ahead: int) -> Iterator[Output]:
    waiting: deque[tuple[Path, Future]] = deque()
    left = iter(files)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        try:
            waiting.extend((file, pool.submit(decode, file)) for file in islice(left, ahead))
            while waiting:
                file, future = waiting.popleft()
                yield file, future.result()
                waiting.extend((file, pool.submit(decode, file)) for file in islice(left, 1))
        finally:
            # A caller that stops early does not wait for the files left.
            pool.shutdown(wait=False, cancel_futures=True)


def _decode(file: Path, size: int, fit: str) -> np.ndarray | InputError:
    try:
        return resize(read_image(file), size, fit)
    except InputError as error:
        return error
