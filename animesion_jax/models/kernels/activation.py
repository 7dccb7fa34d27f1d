"""GELU: plain, and recomputed in the backward pass."""

from functools import partial

import flax.linen as nn
import jax


def gelu(x: jax.Array, approximate: bool, train: bool) -> jax.Array:
    """Returns `kernels.gelu`."""
    return nn.gelu(x, approximate=approximate)


def gelu_recomputed(x: jax.Array, approximate: bool, train: bool) -> jax.Array:
    """Returns `gelu`, whose backward pass computes it again from `x`.

    XLA would otherwise write the intermediate values to memory on a GPU, the largest arrays of a layer.
    """
    compute = partial(gelu, approximate=approximate, train=train)
    return jax.checkpoint(compute)(x) if train else compute(x)
