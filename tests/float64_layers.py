"""Layers with timm's names in float64 numpy, for the formulas of float64_beit.py and float64_eva02.py."""

from collections.abc import Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def patches(arrays: Arrays, images: np.ndarray) -> np.ndarray:
    """Returns the (batch, patches, D) embedding of (batch, S, S, 3) images, row by row."""
    kernel = arrays["patch_embed.proj.weight"]
    patch, batch = kernel.shape[-1], len(images)
    grid = images.shape[1] // patch
    x = images.reshape(batch, grid, patch, grid, patch, 3)
    x = np.einsum("byixjc,dcij->byxd", x, kernel, optimize=True) + arrays["patch_embed.proj.bias"]
    return x.reshape(batch, grid * grid, -1)


def dense(arrays: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """Returns a linear layer of the last axis."""
    return x @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]


def norm(arrays: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """Returns a layer norm of the last axis, with an epsilon of 1e-6."""
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def softmax(scores: np.ndarray) -> np.ndarray:
    """Returns the softmax of the last axis."""
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
