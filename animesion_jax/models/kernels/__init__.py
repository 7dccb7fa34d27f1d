"""The models' operations, each in the fastest known form for the backend.

The forms of an operation compute the same function. `FORMS` names the form of each backend and the measurement behind
it. Other backends take TPU's, which is XLA's own. docs/performance.md describes the machines.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from animesion_jax.models.kernels import activation, attention, convolution, pooling, positions

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
    # CPU: see kernels/activation.py for the fault in XLA. GPU and TPU: XLA's own.
    "relu": {"cpu": activation.relu_by_float32, "gpu": activation.relu, "tpu": activation.relu},
    # GPU, reasoned: see `add_positions`. TPU, XLA's own estimate for a v3-8 and ViT-B/16 at 128 px: 120 ms a step when
    # recomputed, 112 when not. CPU: XLA's own.
    "gelu": {"cpu": activation.gelu, "gpu": activation.gelu_recomputed, "tpu": activation.gelu},
    # GPU, reasoned from the program compiled for an H200: ViT-B/16 at 224 px takes at least 216 ms a step instead of
    # 313. TPU: XLA's own; its estimate rises from 112 to 116 ms with float32 products of bfloat16 weights. CPU: XLA's.
    "attend": {"cpu": attention.attend, "gpu": attention.attend_by_cudnn, "tpu": attention.attend},
}


def _form(operation: str) -> Callable[..., Any]:
    return FORMS[operation].get(jax.default_backend(), FORMS[operation]["tpu"])


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """Returns `jax.lax.conv_general_dilated` of (batch, H, W, C) images and a (height, width, C, features) kernel.

    Its other arguments may be NHWC dimension numbers, a precision, and dilations or groups of 1.
    """
    return _form("convolve")(images, kernel, strides, padding, **options)


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the 2x2 maxima, stride 2, of (batch, H, W, C); an odd last row or column is left out."""
    return _form("max_pool")(x)


def add_positions(tokens: jax.Array, table: jax.Array) -> jax.Array:
    """Returns `tokens` (batch, tokens, hidden) plus `table` (1, tokens, hidden), of the same dtype."""
    return _form("add_positions")(tokens, table)


def relu(x: jax.Array) -> jax.Array:
    """Returns max(x, 0), of the shape and dtype of `x`."""
    return _form("relu")(x)


def gelu(x: jax.Array, approximate: bool, train: bool) -> jax.Array:
    """Returns GELU, exact or by the tanh approximation; `train` says whether a gradient follows."""
    return _form("gelu")(x, approximate, train)


def attend(
    x: jax.Array, num_heads: int, dtype: Any, drop_weights: Callable[[jax.Array], jax.Array] | None = None
) -> jax.Array:
    """Returns multi-head self-attention of (batch, tokens, hidden) tokens, of that shape, with its softmax in float32.

    Call it in a compact method: its layers become the caller's child `MultiHeadDotProductAttention_0`. `drop_weights`
    is the dropout of the (batch, heads, tokens, tokens) attention weights.
    """
    return _form("attend")(x, num_heads, dtype, drop_weights)


def dot_product(
    query: jax.Array, key: jax.Array, value: jax.Array, dtype: Any, bias: jax.Array | None = None
) -> jax.Array:
    """Returns softmax(query key' / sqrt(width) + bias) value for each example and head, with its softmax in float32.

    Call it in a compact method: it becomes the caller's child `dot_product`, whose path `Rollout.layers` names.
    `query`, `key`, `value` and the result are (batch, tokens, heads, width), `bias` (1, heads, tokens, tokens).
    """
    return attention.dot_product(query, key, value, dtype, bias)
