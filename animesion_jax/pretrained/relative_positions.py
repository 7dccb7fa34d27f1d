"""Resampling of tables of relative position biases from one grid of patches to another, by timm's rule."""

import math

import numpy as np

from animesion_jax.errors import InputError

# The last rows of a table, which belong to the class token.
CLASS_TOKEN_ROWS = 3
# Interval and tolerance of the bisection for the ratio of a table's distances.
RATIOS, TOLERANCE = (1.01, 1.5), 1e-6


def resample_relative_positions(source: str, table: np.ndarray, rows: int) -> np.ndarray:
    """Returns a (rows, heads) float32 table from one of another number of rows; the class token's rows are kept.

    The other rows of a grid of g x g patches are a square of distances from -(g - 1) to g - 1 in both directions.
    The rows of the file's table are placed at new distances: the first step from the middle is 1, and each further step
    is longer by a factor of q, so that the last row is at the new grid's largest distance. New rows are interpolated
    linearly at whole distances. For a smaller grid q is the smallest allowed, so that distances nearly keep their
    meaning.

    Args:
      source: the file, for messages.
      table: (rows, heads).
      rows: (2 * g - 1)**2 + 3 for the new g x g patches.

    Raises:
      InputError: the number of rows of either table is not of that form.
    """
    old, new = (_side(source, count, (len(table), rows)) for count in (len(table), rows))
    at = np.arange(new) - new // 2
    half = _distances(old // 2, new // 2)
    distances = np.concatenate([-half[::-1], [0], half])
    # Interpolation is linear: the columns of its matrix are the interpolated unit vectors.
    matrix = np.stack([np.interp(at, distances, unit) for unit in np.eye(old)], 1)
    grid = table[:-CLASS_TOKEN_ROWS].reshape(old, old, -1)
    resampled = np.einsum("yj,xi,jih->yxh", matrix, matrix, grid, optimize=True).reshape(new * new, -1)
    return np.concatenate([resampled, table[-CLASS_TOKEN_ROWS:]]).astype(np.float32)


def _side(source: str, count: int, counts: tuple[int, int]) -> int:
    side = math.isqrt(max(count - CLASS_TOKEN_ROWS, 0))
    if side % 2 == 0 or side * side != count - CLASS_TOKEN_ROWS:
        raise InputError(
            f"{source}: cannot resample relative positions of {counts[0]} rows to {counts[1]}: {count} is not "
            "(2 * g - 1)**2 + 3 for g x g patches; allowed: square images"
        )
    return side


def _distances(count: int, largest: int) -> np.ndarray:
    """Returns (count,) distances 1, 1 + q, 1 + q + q**2, ..., the last one `largest` if a ratio q of `RATIOS` allows.

    timm takes the last point that its bisection tried; the resampled values depend on that at 1e-4.
    """
    terms, (low, high) = np.arange(count), RATIOS
    ratio = high
    while high - low > TOLERANCE:
        ratio = (low + high) / 2
        with np.errstate(over="ignore"):
            reached = (ratio**terms).sum()
        low, high = (low, ratio) if reached > largest else (ratio, high)
    return np.cumsum(ratio**terms)
