"""Applies a function to the crops of image files in batches of one size; threads cut the next files meanwhile."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from animesion_jax.errors import InputError
from animesion_jax.images import prefetch, read_image
from animesion_jax.preprocessing import resize

# Most batches of decoded images that wait in memory.
BATCHES_AHEAD = 2
# Most files that wait for a full batch, in batches: files without a crop must not delay the others without end.
BATCHES_WAITING = 4

Function = Callable[[np.ndarray], jax.Array | np.ndarray]
Output = tuple[Path, np.ndarray | InputError]


@dataclass
class Cut:
    """The crops of a file.

    Attributes:
      crops: (S, S, 3) uint8 each; may be empty.
      about: anything about the file, which comes back with the outputs.
    """

    crops: Sequence[np.ndarray]
    about: Any = None


@dataclass
class _Waiting:
    """A file whose outputs are not complete."""

    file: Path
    cut: Cut
    outputs: list[np.ndarray] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return len(self.outputs) == len(self.cut.crops)


def apply_to_crops(
    function: Function,
    files: Sequence[Path],
    cut: Callable[[Path], Cut],
    size: int,
    batch_size: int,
    ahead: int,
    *,
    pad: bool = True,
) -> Iterator[tuple[Path, Any, list[np.ndarray]]]:
    """Yields each file in order with `Cut.about` and the function's outputs for the crops of the file.

    Args:
      function: maps (batch_size, size, size, 3) uint8 to (batch_size, ...).
      files: images of any size.
      cut: reads a file; runs in threads.
      size: side of the crops in pixels.
      batch_size: crops per call; a batch has crops of several files.
      ahead: most files that are read ahead.
      pad: fill up a batch with zeros, so that a function is compiled once; without it, the last batch is smaller.
    """
    waiting: deque[_Waiting] = deque()
    owners: list[_Waiting] = []
    images = np.zeros((batch_size, size, size, 3), np.uint8)
    previous: tuple[list[_Waiting], Any] = ([], ())

    def start() -> None:
        # Dispatch is asynchronous: read the previous outputs after the next call has started.
        nonlocal owners, images, previous
        current = (owners, function(images if pad else images[: len(owners)]))
        _deliver(*previous)
        previous, owners, images = current, [], np.zeros_like(images)

    def finish() -> None:
        nonlocal previous
        if owners:
            start()
        _deliver(*previous)
        previous = ([], ())

    for file, result in prefetch(cut, files, ahead):
        waiting.append(_Waiting(file, result))
        for crop in result.crops:
            images[len(owners)] = crop
            owners.append(waiting[-1])
            if len(owners) == batch_size:
                start()
        if len(waiting) > BATCHES_WAITING * batch_size:
            finish()
        yield from _completed(waiting)
    finish()
    yield from _completed(waiting)


def _deliver(owners: Sequence[_Waiting], outputs: jax.Array | np.ndarray) -> None:
    for owner, row in zip(owners, np.asarray(outputs), strict=False):
        owner.outputs.append(row)


def _completed(waiting: deque[_Waiting]) -> Iterator[tuple[Path, Any, list[np.ndarray]]]:
    while waiting and waiting[0].complete:
        done = waiting.popleft()
        yield done.file, done.cut.about, done.outputs


def apply_to_files(
    function: Function, files: Sequence[Path], size: int, fit: str, batch_size: int, *, pad: bool = True
) -> Iterator[Output]:
    """Yields each file in order with the function's output for its image, or with the error of reading it.

    Args:
      function, batch_size, pad: as in `apply_to_crops`. Zeros stand in for unreadable images.
      files: images of any size.
      size, fit: side in pixels of the square that the images are resized to, and how, as in `preprocessing.resize`.
    """

    def cut(file: Path) -> Cut:
        try:
            return Cut([resize(read_image(file), size, fit)])
        except InputError as error:
            return Cut([np.zeros((size, size, 3), np.uint8)], error)

    ahead = BATCHES_AHEAD * batch_size
    for file, error, (row,) in apply_to_crops(function, files, cut, size, batch_size, ahead, pad=pad):
        yield file, error or row
