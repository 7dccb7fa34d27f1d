"""ReLU: plain, and by float32. GELU: plain, and recomputed in the backward pass."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp


def relu(x: jax.Array) -> jax.Array:
    """Returns `kernels.relu`."""
    return nn.relu(x)


def relu_by_float32(x: jax.Array) -> jax.Array:
    """Returns `relu`, whose zero is a float32 constant.

    In jaxlib 0.11.2 and 0.12.0.1 XLA's `__ynn_fusion` on CPUs miscomputes two bfloat16 maxima that share a constant
    before a reduction: `(relu(relu(x) + 1)).sum()` is NaN, and so were the logits of ResNets. float32 constants can be
    shared. tests/models/test_kernels.py tells when XLA is fixed and this form can be deleted.
    """
    return nn.relu(x.astype(jnp.float32)).astype(x.dtype)


def gelu(x: jax.Array, approximate: bool, train: bool) -> jax.Array:
    """Returns `kernels.gelu`."""
    return nn.gelu(x, approximate=approximate)


def gelu_recomputed(x: jax.Array, approximate: bool, train: bool) -> jax.Array:
    """Returns `gelu`, whose backward pass computes it again from `x`.

    XLA would otherwise write the intermediate values to memory on a GPU, the largest arrays of a layer.
    """
    compute = partial(gelu, approximate=approximate, train=train)
    return jax.checkpoint(compute)(x) if train else compute(x)
