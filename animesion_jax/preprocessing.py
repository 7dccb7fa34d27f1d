"""Cropping, resizing and normalisation, the same in training, evaluation and prediction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

# The values of config.fit, and descriptions of them and of `resize` for people who prepare images themselves.
FITS = {
    "squash": "the image is stretched to a square, aspect not kept",
    "pad": "the image is put in the middle of a white square",
}
RESIZE = "bilinear, antialiased, rounded to uint8"
# Added to resized pixels before truncation: rounds half up. Resizing by 3/4 or 5/4 makes many ties; the 2**-10 keeps
# them clear of float errors.
ROUNDING = 0.5 + 2**-10
# Largest part of an image, in pixels, that is held as floats.
BAND_PIXELS = 2**20
WHITE = 255
# A crop has at least this many pixels per side.
MIN_CROP_SIDE = 1

# Left, top, right and bottom edge in pixels; the right and bottom edges are outside.
Box = tuple[int, int, int, int]


class Margin(NamedTuple):
    """How a detector's box becomes the crop that a model was trained on.

    Attributes:
      scale: sides of the crop in sides of the box, above 0.
      shift: how far the crop's centre is above the box's, in heights of the box; negative: below it.
      fit: how the crop becomes a square, a key of `FITS`.
    """

    scale: float
    shift: float
    fit: str


def crop(image: Image.Image, box: Box, margin: Margin) -> Image.Image:
    """Returns the part of an image around a box; the parts of the crop that are outside the image are left out.

    Args:
      image: the whole picture.
      box: in pixels of the image.
      margin: its `fit` is for `resize`.
    """
    return image.crop(crop_box(image.size, box, margin))


def crop_box(size: tuple[int, int], box: Box, margin: Margin) -> Box:
    """Returns the box of `crop` on an image of a width and height in pixels."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2 - margin.shift * (bottom - top)
    half_width, half_height = margin.scale * (right - left) / 2, margin.scale * (bottom - top) / 2
    first = _inside(x - half_width, x + half_width, size[0])
    second = _inside(y - half_height, y + half_height, size[1])
    return first[0], second[0], first[1], second[1]


def _inside(start: float, stop: float, length: int) -> tuple[int, int]:
    """Returns an interval, rounded and clipped to 0 to `length`; at least `MIN_CROP_SIDE` wide."""
    first = min(max(round(start), 0), length - MIN_CROP_SIDE)
    return first, max(min(round(stop), length), first + MIN_CROP_SIDE)


def canvas(width: int, height: int, fit: str) -> tuple[int, int, int, int]:
    """Returns the width and height of the area to resize, and the image's left and top edge in it, in pixels."""
    side = max(width, height)
    return {"squash": (width, height, 0, 0), "pad": (side, side, (side - width) // 2, (side - height) // 2)}[fit]


def resize(image: Image.Image, size: int, fit: str) -> np.ndarray:
    """Returns an RGB image resized to (size, size, 3) uint8 as in training: bilinear, antialiased; `fit` as in `FITS`.

    Resamples float channels and rounds once, like TensorFlow; Pillow rounds 8-bit images after each of its two passes.
    """
    if image.size == (size, size):
        return np.asarray(image)
    # Columns first in a tall image with padding, so that no pass takes white columns beside every row.
    turned = fit == "pad" and image.height > image.width
    lines = _shrink_lines(image, size, fit, turned)
    channels = [np.asarray(Image.fromarray(each).resize((size, size), Image.Resampling.BILINEAR)) for each in lines]
    pixels = np.stack([each.T if turned else each for each in channels], axis=-1)
    return np.clip(np.floor(pixels + ROUNDING), 0, 255).astype(np.uint8, order="C")


def _shrink_lines(image: Image.Image, size: int, fit: str, turned: bool) -> np.ndarray:
    """Returns the (3, lines, size) float32 channels of the rows, or of the columns if `turned`, each resized to `size`.

    Takes bands of `BAND_PIXELS`, so that memory holds no float copy of the whole image. Lines of padding are white.
    """
    width, height, left, top = canvas(*image.size, fit)
    length, lines, first = (height, width, left) if turned else (width, height, top)
    shrunk = np.full((3, lines, size), WHITE, np.float32)
    count, step = image.width if turned else image.height, max(1, BAND_PIXELS // length)
    for start in range(0, count, step):
        stop = min(start + step, count)
        if turned:
            band = image.crop((start, 0, stop, length)).transpose(Image.Transpose.TRANSPOSE)
        else:
            band = image.crop((0, start, length, stop))
        for channel, values in enumerate(band.split()):
            resized = values.convert("F").resize((size, stop - start), Image.Resampling.BILINEAR)
            shrunk[channel, first + start : first + stop] = np.asarray(resized)
    return shrunk


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Returns (x - mean) / std per channel of (..., 3) images, float32 in [0, 1] or uint8 in [0, 255]."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
