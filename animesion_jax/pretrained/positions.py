"""Resampling of position embeddings from one grid of patches to another."""

import math

import numpy as np
import scipy.ndimage

from animesion_jax.errors import InputError


def resample_positions(source: str, table: np.ndarray, tokens: int, has_token: bool) -> np.ndarray:
    """Returns a (1, tokens, D) float32 table from a table of another number of tokens.

    As in Google's code, the class token's row is kept; the other rows form a square grid that is interpolated
    bilinearly with aligned corners, at linspace(0, g - 1, g'). `jax.image.resize` gives other numbers.

    Args:
      source: the file, for messages.
      table: (1, N, D).
      tokens: their number in the result, the class token included.
      has_token: whether the first row is the class token's.

    Raises:
      InputError: the patches of either table do not form a square grid.
    """
    first = int(has_token)
    old, new = (math.isqrt(max(count - first, 0)) for count in (table.shape[1], tokens))
    for side, count in ((old, table.shape[1]), (new, tokens)):
        if side < 1 or side * side != count - first:
            raise InputError(
                f"{source}: cannot resample positions of {table.shape[1]} tokens to {tokens}: {count - first} "
                "patches do not form a square; allowed: square images"
            )
    grid = table[0, first:].reshape(old, old, -1).astype(np.float64)
    resampled = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1).reshape(1, new * new, -1)
    return np.concatenate([table[:, :first], resampled], axis=1).astype(np.float32)
