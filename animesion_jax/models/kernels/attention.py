"""Multi-head self-attention: Flax's own, and with cuDNN's fused kernels."""

import functools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

log = logging.getLogger(__name__)

# cuDNN's kernels compute in these.
HALF = (jnp.bfloat16, jnp.float16)

# Name of the module between the projections, as a child of the caller.
DOT_PRODUCT = "dot_product"

# Dropout of attention weights.
Drop = Callable[[jax.Array], jax.Array]


class DotProduct(nn.Module):
    """The attention between the projections, without parameters. `explain` reads the arguments of its calls.

    Attributes:
      compute: a function of query, key, value and bias; `dot_product` has their shapes.
      tokens: the number of tokens without the padding.
    """

    compute: Callable[..., jax.Array]
    tokens: int

    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None) -> jax.Array:
        """Returns (batch, tokens, heads, width)."""
        return self.compute(query, key, value, bias)


def dot_product(
    query: jax.Array, key: jax.Array, value: jax.Array, dtype: Any, bias: jax.Array | None = None
) -> jax.Array:
    """Returns softmax(query key' / sqrt(width) + bias) value for each example and head; see `kernels.dot_product`."""
    return DotProduct(partial(_attend, dtype=dtype), query.shape[1], name=DOT_PRODUCT)(query, key, value, bias)


def _attend(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, dtype: Any) -> jax.Array:
    return nn.dot_product_attention(query, key, value, bias=bias, dtype=dtype, force_fp32_for_softmax=True)


def attend(x: jax.Array, num_heads: int, dtype: Any, drop_weights: Drop | None = None) -> jax.Array:
    """Returns Flax's self-attention of (batch, tokens, hidden) tokens; see `kernels.attend`."""

    def attend_and_drop(query: jax.Array, key: jax.Array, value: jax.Array, bias: None) -> jax.Array:
        weights = nn.dot_product_attention_weights(query, key, dtype=dtype, force_fp32_for_softmax=True)
        return jnp.einsum("bhqk,bkhd->bqhd", drop_weights(weights), value)

    return _project(x, num_heads, dtype, attend_and_drop if drop_weights else partial(_attend, dtype=dtype), x.shape[1])


def attend_by_cudnn(x: jax.Array, num_heads: int, dtype: Any, drop_weights: Drop | None = None) -> jax.Array:
    """Returns `attend`, by cuDNN's kernels in half precision where they run and no weight is dropped.

    XLA writes all (tokens, tokens) weights to memory, several times with the gradient; cuDNN's kernels never do.
    """
    tokens, hidden_size = x.shape[1:]
    if drop_weights or not can_fuse(tokens, num_heads, hidden_size // num_heads, dtype):
        return attend(x, num_heads, dtype, drop_weights)

    def attend_padded(query: jax.Array, key: jax.Array, value: jax.Array, bias: None) -> jax.Array:
        return attend_fused(query, key, value, tokens)

    # Pad before the projections, where the padding is fused with the layer norm.
    return _project(pad_tokens(x), num_heads, dtype, attend_padded, tokens)[:, :tokens]


def _project(x: jax.Array, num_heads: int, dtype: Any, compute: Callable[..., jax.Array], tokens: int) -> jax.Array:
    """Returns the tokens after the four projections of Flax's module, with a `DotProduct` between them."""

    def attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return DotProduct(compute, tokens, name=DOT_PRODUCT)(query, key, value)

    return nn.MultiHeadDotProductAttention(
        num_heads,
        dtype=dtype,
        kernel_init=nn.initializers.xavier_uniform(),
        force_fp32_for_softmax=True,
        attention_fn=attention,
    )(x)


def attend_fused(
    query: jax.Array, key: jax.Array, value: jax.Array, tokens: int, implementation: str = "cudnn"
) -> jax.Array:
    """Returns softmax(query key' / sqrt(width)) value over the first `tokens` keys, for each example and head.

    Arguments and result are (batch, tokens or more, heads, width); the result of tokens that `pad_tokens` added is
    undefined. The softmax is float32; both products have the dtype of the arguments.
    """
    padded = query.shape[1] > tokens
    lengths = jnp.full(query.shape[0], tokens, jnp.int32) if padded else None
    return jax.nn.dot_product_attention(
        query, key, value, query_seq_lengths=lengths, key_value_seq_lengths=lengths, implementation=implementation
    )


def pad_tokens(x: jax.Array) -> jax.Array:
    """Returns (batch, tokens, hidden) tokens with another one of zeros if their number is odd.

    JAX hands only even numbers to cuDNN's gradient, and a class token makes most of ours odd.
    """
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0)))


def can_fuse(tokens: int, heads: int, width: int, dtype: Any) -> bool:
    """Returns whether cuDNN's attention takes this dtype, and runs on this machine."""
    return dtype in HALF and _runs(tokens, heads, width, dtype)


@functools.cache
def _runs(tokens: int, heads: int, width: int, dtype: Any) -> bool:
    """Returns whether fused attention and its gradient run here; the card, the shape and the versions decide."""
    like = jax.ShapeDtypeStruct((1, tokens + tokens % 2, heads, width), dtype)

    def total(*arguments: jax.Array) -> jax.Array:
        return attend_fused(*arguments, tokens).astype(jnp.float32).sum()

    try:
        gradient = jax.jit(jax.grad(total, (0, 1, 2))).lower(like, like, like).compile()
        jax.block_until_ready(gradient(*[np.zeros(like.shape, dtype)] * 3))
    except Exception as error:  # JAX, XLA and cuDNN raise unrelated classes
        log.warning("cuDNN's fused attention does not run here, XLA's is used: %.200s", error)
        return False
    return True
