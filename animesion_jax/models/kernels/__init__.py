"""The models' operations, each in the fastest known form for the backend: cpu, gpu or tpu.

The forms of an operation compute the same function. `FORMS` names the form of each backend and the measurement behind
it. A backend without a measurement takes XLA's own form. docs/performance.md describes the machines.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from animesion_jax.models.kernels import activation, attention, convolution, dropout, pooling, positions

FORMS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    # CPU, measured: see kernels/convolution.py for the milliseconds. GPU and TPU: XLA's own.
    "convolve": {
        "cpu": convolution.convolve_by_products,
        "gpu": jax.lax.conv_general_dilated,
        "tpu": jax.lax.conv_general_dilated,
    },
    # CPU, measured: the gradient of `nn.max_pool` takes eight times as long. GPU and TPU: XLA's own.
    "max_pool": {"cpu": pooling.max_pool_by_places, "gpu": pooling.max_pool, "tpu": pooling.max_pool},
    # CPU, measured: 0.1 ms against 1.8 for the gradient of 65 x 384 positions, batch 64. GPU, reasoned from the program
    # compiled for an H200: ViT-B/16 at 224 px takes at least 187 ms a step instead of 225, together with `gelu`. TPU:
    # XLA's own.
    "add_positions": {
        "cpu": positions.add_by_product,
        "gpu": positions.add_by_product,
        "tpu": positions.add,
    },
    # GPU, reasoned: see `add_positions`. TPU, XLA's own estimate for a v3-8 and ViT-B/16 at 128 px: 120 ms a step when
    # recomputed, 112 when not. CPU: XLA's own.
    "gelu": {"cpu": activation.gelu, "gpu": activation.gelu_recomputed, "tpu": activation.gelu},
    # GPU, reasoned from the program compiled for an H200: ViT-B/16 at 224 px takes at least 216 ms a step instead of
    # 313. TPU, XLA's own estimate: float32 products with bfloat16 weights make 116 ms of 112. CPU: XLA's own.
    "attend": {"cpu": attention.attend, "gpu": attention.attend_by_cudnn, "tpu": attention.attend},
    # The same on every backend, because the random numbers must not depend on it. CPU, measured: a step of vit_s16
    # takes 1.79 s instead of 1.92 with 32 random bits an activation. GPU, reasoned: these cost 135 ms of integer
    # operations in ViT-B/16 at 224 px. TPU, reasoned: 8 ms instead of 30 for ViT-B/16 at 128 px.
    "draw_mask": {"cpu": dropout.draw_mask, "gpu": dropout.draw_mask, "tpu": dropout.draw_mask},
}


def form_of(operation: str) -> Callable[..., Any]:
    """Returns the form of an operation of `FORMS` for the default backend."""
    return FORMS[operation][jax.default_backend()]


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of (batch, H, W, C) images and a (height, width, C, features) kernel.

    Args:
      images, kernel: of one dtype.
      strides: along height and width.
      padding: as in `conv_general_dilated`.
      **options: its other arguments: NHWC dimension numbers, a precision, and dilations or groups of 1.
    """
    return form_of("convolve")(images, kernel, strides, padding, **options)


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the 2x2 maxima, stride 2, of (batch, H, W, C); an odd last row or column is left out."""
    return form_of("max_pool")(x)


def add_positions(tokens: jax.Array, table: jax.Array) -> jax.Array:
    """Returns `tokens` (batch, tokens, hidden) plus `table` (1, tokens, hidden), of the same dtype."""
    return form_of("add_positions")(tokens, table)


def gelu(x: jax.Array, approximate: bool, train: bool) -> jax.Array:
    """Returns GELU of an array: the tanh approximation, or the exact one by the error function.

    Args:
      x: of any shape.
      approximate: whether to take the approximation.
      train: whether a gradient follows.
    """
    return form_of("gelu")(x, approximate, train)


def attend(
    x: jax.Array, num_heads: int, dtype: Any, drop_weights: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """Returns multi-head self-attention of (batch, tokens, hidden) tokens, of that shape, with its softmax in float32.

    Call it in a compact method: its layers become the caller's child `MultiHeadDotProductAttention_0`.

    Args:
      x: tokens.
      num_heads: divides the hidden size.
      dtype: compute dtype.
      drop_weights: dropout of the (batch, heads, tokens, tokens) attention weights; None for none.
    """
    return form_of("attend")(x, num_heads, dtype, drop_weights)


def draw_mask(keys: jax.Array, rate: float, shape: Sequence[int]) -> jax.Array:
    """Returns a (batch, *shape) bool mask that is False with probability `rate`.

    Args:
      keys: (batch,) random keys, one for each example.
      rate: in (0, 1).
      shape: of an example.
    """
    return form_of("draw_mask")(keys, rate, shape)
