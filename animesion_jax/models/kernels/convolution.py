"""Convolution as a matrix product where XLA's CPU convolution is slow."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def convolve_by_products(
    images: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """Returns `kernels.convolve`, as one matrix product in three cases; of `options` this reads only the precision.

    In these cases XLA's CPU convolution or its gradient is slow. Milliseconds are of one core at batch 64, first XLA's,
    then the product's:

    - A side of the images or of the result is shorter than the kernel's, as in the last stages of a ResNet on small
      images; XLA falls back on plain loops. 3x3 kernel, 512 channels, 2x2 images: 1,200 against 8. Gradient by 4x4
      images with stride 2: 327 against 5.
    - The kernel has one pixel. Gradient by the kernel, 64 to 256 channels, 32x32 images: 243 against 91.
    - The strides equal the kernel's sides, as in a ViT's patch embedding. 128x128 images, 16x16 pixels, 768 features:
      59 against 40. Gradient in a loop over parts of 16 images, as with `config.grad_accumulation`: 115 against 2.
    """
    height, width = kernel.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], (height, width), strides, padding)
    rows, columns = (
        (before + side + after - size) // stride + 1
        for side, (before, after), size, stride in zip(
            images.shape[1:3], padding, (height, width), strides, strict=True
        )
    )
    if (height, width) == tuple(strides) and images.shape[1:3] == (rows * height, columns * width):
        patches = images.reshape(-1, rows, height, columns, width, images.shape[-1]).transpose(0, 1, 3, 2, 4, 5)
        return _product(patches.reshape(-1, rows, columns, height * width * images.shape[-1]), kernel, options)
    if (height, width) != (1, 1) and min(images.shape[1], rows) >= height and min(images.shape[2], columns) >= width:
        return jax.lax.conv_general_dilated(images, kernel, strides, padding, **options)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    batch, channels = padded.shape[0], padded.shape[-1]
    below, right = strides[0] * (rows - 1) + 1, strides[1] * (columns - 1) + 1
    window = [
        jax.lax.slice(padded, (0, y, x, 0), (batch, y + below, x + right, channels), (1, *strides, 1))
        for y in range(height)
        for x in range(width)
    ]
    return _product(jnp.concatenate(window, -1), kernel, options)


def _product(windows: jax.Array, kernel: jax.Array, options: dict[str, Any]) -> jax.Array:
    """Returns (batch, rows, columns, height * width * C) windows times the kernel."""
    return jnp.matmul(windows, kernel.reshape(-1, kernel.shape[-1]), precision=options.get("precision"))
