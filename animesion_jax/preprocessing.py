"""Resizing and normalisation, the same in training, evaluation and prediction."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

# Description of `resize` in a bundle.
RESIZE = "bilinear, antialiased, aspect not kept, rounded to uint8"
# Added to resized pixels before truncation: rounds half up. Resizing by 3/4 or 5/4 makes many ties; the 2**-10 keeps
# them clear of float errors.
ROUNDING = 0.5 + 2**-10
# Largest part of an image, in pixels, that is held as floats.
BAND_PIXELS = 2**20


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Returns an RGB image resized to (size, size, 3) uint8 as in training: bilinear, antialiased, aspect not kept.

    Resamples float channels and rounds once, like TensorFlow; Pillow rounds 8-bit images after each of its two passes.
    The first pass, along rows, takes bands of `BAND_PIXELS`, so that memory holds no float copy of the whole image.
    """
    width, height = image.size
    if (width, height) == (size, size):
        return np.asarray(image)
    narrow = np.empty((3, height, size), np.float32)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        for channel, values in enumerate(band.split()):
            shrunk = values.convert("F").resize((size, band.height), Image.Resampling.BILINEAR)
            narrow[channel, top : top + rows] = np.asarray(shrunk)
    channels = [Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR) for each in narrow]
    return np.clip(np.floor(np.stack(channels, axis=-1) + ROUNDING), 0, 255).astype(np.uint8)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Returns (x - mean) / std per channel of (..., 3) images, float32 in [0, 1] or uint8 in [0, 255]."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
