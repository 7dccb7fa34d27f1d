"""Scaled dot-product attention by cuDNN's fused kernels."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np

log = logging.getLogger(__name__)

# What cuDNN's kernels compute in.
HALF = (jnp.bfloat16, jnp.float16)


def attend_fused(
    query: jax.Array, key: jax.Array, value: jax.Array, tokens: int, implementation: str = "cudnn"
) -> jax.Array:
    """Returns softmax(query key' / sqrt(width)) value over the first `tokens` keys, for each example and head.

    The softmax is float32, both products are in the dtype of the arguments.

    Args:
      query, key, value: (batch, tokens or more, heads, width).
      tokens: how many there are; of others, put there by `pad_tokens`, the result means nothing.
      implementation: of `jax.nn.dot_product_attention`.

    Returns:
      (batch, tokens or more, heads, width).
    """
    padded = query.shape[1] > tokens
    lengths = jnp.full(query.shape[0], tokens, jnp.int32) if padded else None
    return jax.nn.dot_product_attention(
        query, key, value, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation=implementation
    )


def pad_tokens(x: jax.Array) -> jax.Array:
    """Returns (batch, tokens, hidden) tokens with a zero one more where their number is odd.

    JAX hands only even numbers to cuDNN's gradient, and a class token makes most of ours odd.
    """
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0)))


def is_fused(tokens: int, heads: int, width: int, dtype: jnp.dtype) -> bool:
    """Returns whether cuDNN is to compute attention: on NVIDIA GPUs, in half precision, where it runs.

    XLA writes all (tokens, tokens) weights to memory, several times with the gradient; cuDNN's kernels never do.
    """
    return jax.default_backend() == "gpu" and dtype in HALF and _runs(tokens, heads, width, dtype)


@functools.cache
def _runs(tokens: int, heads: int, width: int, dtype: jnp.dtype) -> bool:
    """Returns whether fused attention and its gradient run here, which card, shape and versions decide."""
    like = jax.ShapeDtypeStruct((1, tokens + tokens % 2, heads, width), dtype)

    def total(*arguments: jax.Array) -> jax.Array:
        return attend_fused(*arguments, tokens).astype(jnp.float32).sum()

    try:
        gradient = jax.jit(jax.grad(total, (0, 1, 2))).lower(like, like, like).compile()
        jax.block_until_ready(gradient(*[np.zeros(like.shape, dtype)] * 3))
    except Exception as error:  # JAX, XLA and cuDNN have their own classes each
        log.warning("attention without cuDNN's fused kernels, which do not run here: %.200s", error)
        return False
    return True
