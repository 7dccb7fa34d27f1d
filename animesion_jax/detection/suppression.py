"""Non-maximum suppression."""

import numpy as np


def suppress(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> np.ndarray:
    """Returns the indices of the boxes to keep, the highest score first.

    Takes the boxes by falling score, those of equal scores in their order, and leaves out a box whose intersection over
    union with a kept one is above `max_iou`.

    Args:
      boxes: (n, 4) left, top, right, bottom.
      scores: (n,), finite.
      max_iou: 0 to 1.
    """
    left, top, right, bottom = boxes.astype(np.float64).T
    # A network may exchange left and right: with a negative area, such a box would suppress those that it misses.
    areas = (right - left).clip(0) * (bottom - top).clip(0)
    waiting, kept = np.argsort(-scores, kind="stable"), []
    while len(waiting):
        first, waiting = waiting[0], waiting[1:]
        kept.append(first)
        widths = np.minimum(right[first], right[waiting]) - np.maximum(left[first], left[waiting])
        heights = np.minimum(bottom[first], bottom[waiting]) - np.maximum(top[first], top[waiting])
        shared = widths.clip(0) * heights.clip(0)
        waiting = waiting[shared <= max_iou * (areas[first] + areas[waiting] - shared)]
    return np.asarray(kept, int)
