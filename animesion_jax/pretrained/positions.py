"""Resampling of position embeddings from one grid of patches to another."""

import math

import jax
import numpy as np
import scipy.ndimage

from animesion_jax.errors import InputError


def _by_google(grid: np.ndarray, side: int) -> np.ndarray:
    """Interpolates bilinearly with aligned corners, at linspace(0, g - 1, side), as Google's code does."""
    return scipy.ndimage.zoom(grid, (side / grid.shape[0], side / grid.shape[1], 1), order=1)


def _by_timm(grid: np.ndarray, side: int) -> np.ndarray:
    """Interpolates bicubically with half-pixel centres, antialiased, as timm does."""
    return np.asarray(jax.image.resize(grid.astype(np.float32), (side, side, grid.shape[2]), "cubic"))


# Functions of a (g, g, D) float64 grid and the new side.
RULES = {"google": _by_google, "timm": _by_timm}


def resample_positions(source: str, table: np.ndarray, tokens: int, has_token: bool, rule: str) -> np.ndarray:
    """Returns a (1, tokens, D) float32 table from a table of another number of tokens.

    The class token's row is kept. The other rows form a square grid, which is interpolated.

    Args:
      source: the file, for messages.
      table: (1, N, D).
      tokens: their number in the result, the class token included.
      has_token: whether the first row is the class token's.
      rule: a key of `RULES`.

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
    resampled = RULES[rule](grid, new).reshape(1, new * new, -1)
    return np.concatenate([table[:, :first], resampled], axis=1).astype(np.float32)
