"""Augmentation and normalisation of uint8 batches, in jnp, on the device.

Random numbers of an example come from its own key, so they do not depend on the batch around it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

# ITU-R 601-2 luma, the grey of Pillow and torchvision.
LUMA = (0.299, 0.587, 0.114)
# What data and predict add to resized pixels before they cut off the fraction: half up, with ties, which resizing by
# 3/4 or 5/4 makes many of, clear of float rounding.
ROUNDING = 0.5 + 2**-10


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image.

    Attributes:
      flip: probability of a horizontal flip.
      brightness, contrast, saturation: half-width b of the factor's range [max(0, 1 - b), 1 + b].
      hue: half-width of the hue shift's range, in turns of the colour circle, at most 0.5.
    """

    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


def crop(image: jax.Array, top: jax.Array, left: jax.Array, size: int) -> jax.Array:
    """Returns the (size, size, 3) window of `image` (H, W, 3) whose corner is (top, left)."""
    return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, image.shape[-1]))


def grey(image: jax.Array) -> jax.Array:
    """Returns the (H, W, 1) luma of an (H, W, 3) float image."""
    return image @ jnp.asarray(LUMA, image.dtype)[:, None]


def shift_hue(image: jax.Array, shift: jax.Array) -> jax.Array:
    """Turns the hue of an (H, W, 3) float image in [0, 1] by `shift` turns, keeping HSV value and saturation."""
    red, green, blue = jnp.moveaxis(image, -1, 0)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    safe = jnp.where(chroma > 0, chroma, 1.0)
    hue = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    # Channel n of the HSV hexagon: value - chroma * clip(min(k, 4 - k), 0, 1), k = (n + 6 * hue) mod 6.
    k = (jnp.asarray([5.0, 3.0, 1.0]) + (hue + 6.0 * shift)[..., None]) % 6.0
    return value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)


def _blend(image: jax.Array, kind: jax.Array, factors: jax.Array, skip: jax.Array) -> jax.Array:
    """Applies brightness (kind 0), contrast (1) or saturation (2); all are a * x + b * mean grey + c * grey."""
    factor = jnp.where(skip, 1.0, factors[kind])
    luma = grey(image)
    blended = (
        factor * image
        + jnp.where(kind == 1, 1.0 - factor, 0.0) * luma.mean()
        + jnp.where(kind == 2, 1.0 - factor, 0.0) * luma
    )
    return jnp.clip(blended, 0.0, 1.0)


def jitter(image: jax.Array, order: jax.Array, factors: jax.Array, hue: jax.Array) -> jax.Array:
    """Changes brightness, contrast, saturation and hue of an (H, W, 3) float image in [0, 1].

    As torchvision's ColorJitter, which draws the order of the four anew for every image. The costly hue
    turn is computed once, with the blends that come before and after it around it.

    Args:
      image: (H, W, 3) float32 in [0, 1].
      order: (4,) permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue; applied first to last.
      factors: (3,) factors of brightness, contrast and saturation; 1 changes nothing.
      hue: shift of the hue in turns.
    """
    hue_place = jnp.argmax(order == 3)
    for place in range(3):
        image = _blend(image, order[place], factors, skip=place >= hue_place)
    image = shift_hue(image, hue)
    for place in range(1, 4):
        image = _blend(image, order[place], factors, skip=place <= hue_place)
    return image


def _augment_one(key: jax.Array, image: jax.Array, size: int, augmentation: Augmentation) -> jax.Array:
    crop_key, flip_key, order_key, factor_key, hue_key = jax.random.split(key, 5)
    margin = jnp.asarray([image.shape[0] - size, image.shape[1] - size])
    top, left = jax.random.randint(crop_key, (2,), 0, margin + 1)
    image = crop(image, top, left, size).astype(jnp.float32) / 255.0
    image = jnp.where(jax.random.bernoulli(flip_key, augmentation.flip), image[:, ::-1], image)
    widths = jnp.asarray([augmentation.brightness, augmentation.contrast, augmentation.saturation])
    if max(augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue) == 0:
        return image
    factors = jax.random.uniform(factor_key, (3,), minval=jnp.maximum(0.0, 1.0 - widths), maxval=1.0 + widths)
    hue = jax.random.uniform(hue_key, minval=-augmentation.hue, maxval=augmentation.hue)
    return jitter(image, jax.random.permutation(order_key, 4), factors, hue)


def augment(keys: jax.Array, images: jax.Array, size: int, augmentation: Augmentation) -> jax.Array:
    """Returns randomly cropped, flipped and jittered images.

    Args:
      keys: (batch,) random keys, one per example.
      images: (batch, H, W, 3) uint8, H and W at least `size`.
      size: side of the crop in pixels.
      augmentation: what to draw.

    Returns:
      (batch, size, size, 3) float32 in [0, 1].
    """
    return jax.vmap(lambda key, image: _augment_one(key, image, size, augmentation))(keys, images)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Returns (x - mean) / std per channel of float32 images in [0, 1]; uint8 images are scaled first."""
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.float32) / 255.0
    return (images - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
