"""The outputs of YOLO's exports as boxes and scores; NumPy alone."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from animesion_jax.errors import InputError

# Classes that count if a detector has them; otherwise every class counts.
HEADS = ("head", "face")


class Candidates(NamedTuple):
    """Boxes of the network's input.

    Attributes:
      boxes: (n, 4) left, top, right, bottom in shares of the input's width and height.
      scores: (n,) of the likeliest counted class.
    """

    boxes: np.ndarray
    scores: np.ndarray


# From the (rows, columns) output of one image, its input's (width, height), and the counted classes (None for all).
Decode = Callable[[np.ndarray, tuple[int, int], Sequence[int] | None], Candidates]


def _centres(rows: np.ndarray, classes: Sequence[int] | None) -> Candidates:
    """Decodes rows of centre x, centre y, width, height and a score per class."""
    centres, halves = rows[:, :2], rows[:, 2:4] / 2
    scores = rows[:, 4:]
    if classes is not None:
        # A box of another class is not a head, whatever its second likeliest class is.
        counted = np.isin(scores.argmax(1), classes)
        scores = np.where(counted[:, None], scores, 0)
    return Candidates(np.concatenate([centres - halves, centres + halves], 1), scores.max(1))


def decode_yolo(output: np.ndarray, size: tuple[int, int], classes: Sequence[int] | None) -> Candidates:
    """YOLOv5u, v8, v9, 11 and later: (4 + classes, N), centres and sides in pixels of the input."""
    found = _centres(output.T, classes)
    return found._replace(boxes=found.boxes / (2 * size))


def decode_end_to_end(output: np.ndarray, size: tuple[int, int], classes: Sequence[int] | None) -> Candidates:
    """YOLOv10 and exports with suppression: (N, 6), corners in pixels of the input, score, class."""
    boxes, scores, labels = output[:, :4] / (2 * size), output[:, 4], output[:, 5]
    return Candidates(boxes, scores if classes is None else np.where(np.isin(labels, classes), scores, 0))


def decode_rtdetr(output: np.ndarray, size: tuple[int, int], classes: Sequence[int] | None) -> Candidates:
    """RT-DETR: (N, 4 + classes), centres and sides in shares of the input."""
    return _centres(output, classes)


def choose_decoder(shape: tuple[int, ...], names: Sequence[str] | None, is_rtdetr: bool) -> Decode:
    """Returns the decoder of an output's shape.

    Args:
      shape: of the output for one image.
      names: of the classes; None if the file does not have them.
      is_rtdetr: whether the file says that it is an RT-DETR.

    Raises:
      InputError: none of the layouts has this shape.
    """
    if len(shape) == 3 and shape[0] == 1:
        _, rows, columns = shape
        width = 4 + len(names) if names else None
        if is_rtdetr:
            if columns == (width or max(columns, 5)):
                return decode_rtdetr
        elif columns == 6:
            return decode_end_to_end
        elif rows == (width or 5):
            return decode_yolo
        elif columns == width:
            return decode_rtdetr
    found = " x ".join(map(str, shape)) or "a number"
    known = f" for its {len(names)} classes" if names else ", and its metadata has no names of classes"
    raise InputError(
        f"its output is {found}{known}; allowed: YOLO's 1 x (4 + classes) x N, 1 x N x 6 of exports with suppression, "
        "or RT-DETR's 1 x N x (4 + classes)"
    )


def counted_classes(names: Sequence[str] | None) -> list[int] | None:
    """Returns the class ids of `HEADS` among the names; None, for all, if there are none."""
    found = [place for place, name in enumerate(names or ()) if name.lower() in HEADS]
    return found or None
