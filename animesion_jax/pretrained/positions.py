"""Position embeddings of one grid of patches resampled to another."""

import math

import numpy as np
import scipy.ndimage

from animesion_jax.errors import InputError


def resample_positions(source: str, table: np.ndarray, tokens: int, has_token: bool) -> np.ndarray:
    """Returns a (1, tokens, D) float32 table from one of another number of tokens.

    As Google's code resampled them: the class token's row stays as it is, the others form a square grid that is
    interpolated bilinearly between aligned corners, at linspace(0, g - 1, g'). `jax.image.resize` gives other numbers.

    Args:
      source: the file, for messages.
      table: (1, N, D).
      tokens: wanted number, the class token included.
      has_token: whether the first row is the class token's.

    Raises:
      InputError: the patches of either table form no square grid.
    """
    first = int(has_token)
    old, new = (math.isqrt(max(count - first, 0)) for count in (table.shape[1], tokens))
    for side, count in ((old, table.shape[1]), (new, tokens)):
        if side < 1 or side * side != count - first:
            raise InputError(
                f"{source}: position embeddings of {table.shape[1]} tokens do not go to {tokens}: {count - first} "
                "patches form no square; allowed: square images"
            )
    grid = table[0, first:].reshape(old, old, -1).astype(np.float64)
    resampled = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1).reshape(1, new * new, -1)
    return np.concatenate([table[:, :first], resampled], axis=1).astype(np.float32)
