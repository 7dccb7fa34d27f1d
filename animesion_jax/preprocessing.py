"""The pixels that training, evaluation and prediction all see: resized, then normalised."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

RESIZE = "bilinear, antialiased, aspect not kept, rounded to uint8"


# What data and predict add to resized pixels before they cut off the fraction: half up, with ties, which resizing by
# 3/4 or 5/4 makes many of, clear of float rounding.
ROUNDING = 0.5 + 2**-10


# Floats are made of so many pixels at a time.
BAND_PIXELS = 2**20


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Returns the (size, size, 3) uint8 image of an RGB one, resized as in training: bilinear, antialiased, no aspect.

    Pillow resamples 8-bit images in two rounded passes; float channels are rounded once, as TensorFlow's are. The first
    pass, along rows, goes through a band of rows at a time, so that the whole image is never there as floats.
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
    """Returns (x - mean) / std per channel of float32 images in [0, 1]; uint8 images are scaled first."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
