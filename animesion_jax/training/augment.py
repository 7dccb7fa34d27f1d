"""Augmentation and normalisation of uint8 batches on the device, in jnp.

Every example has its own random key, so its random numbers do not depend on the rest of the batch.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

# ITU-R 601-2 luma, the grey of Pillow and torchvision.
LUMA = (0.299, 0.587, 0.114)
# Random erasing's rectangle: area relative to the image, and height / width; torchvision's ranges.
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = (0.3, 3.3)
# Fold this number into an example's key for erasing, so that the five other draws do not depend on it.
ERASING = 5


@dataclass(frozen=True)
class Augmentation:
    """The random changes of a training image.

    Attributes:
      flip: probability of a horizontal flip.
      brightness, contrast, saturation: half-width b of the factor's range [max(0, 1 - b), 1 + b].
      hue: half-width of the hue shift's range, in turns of the colour circle, at most 0.5.
      erasing: probability that a rectangle is erased.
    """

    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erasing: float = 0.0


def crop(image: jax.Array, top: jax.Array, left: jax.Array, size: int) -> jax.Array:
    """Returns the (size, size, 3) window of `image` (H, W, 3) whose corner is (top, left)."""
    return jax.lax.dynamic_slice(image, (top, left, 0), (size, size, image.shape[-1]))


def grey(image: jax.Array) -> jax.Array:
    """Returns the (H, W, 1) luma of an (H, W, 3) float image."""
    # XLA would write the result of a matrix product or of a sum over an axis to memory.
    red, green, blue = jnp.split(image, 3, axis=-1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


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

    The same as torchvision's ColorJitter, which draws the order of the four for every image. The hue turn is expensive:
    compute it once, between the blends that come before it and those that come after it.

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


def draw_rectangle(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns (top, left, height, width), int32 pixels, of a random rectangle within a square of side `size`.

    Random erasing (Zhong et al., 2017, arXiv:1708.04896): the area is uniform in `ERASED_AREA`, the aspect ratio
    log-uniform in `ERASED_ASPECT`. The original draws again until the rectangle fits; this draws the aspect ratio from
    those that fit. Every place within the square is equally likely.
    """
    area_key, aspect_key, top_key, left_key = jax.random.split(key, 4)
    area = jax.random.uniform(area_key, minval=ERASED_AREA[0], maxval=ERASED_AREA[1])
    least, most = jnp.maximum(ERASED_ASPECT[0], area), jnp.minimum(ERASED_ASPECT[1], 1.0 / area)
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=jnp.log(least), maxval=jnp.log(most)))
    height = jnp.round(size * jnp.sqrt(area * aspect)).astype(jnp.int32)
    width = jnp.round(size * jnp.sqrt(area / aspect)).astype(jnp.int32)
    top = jax.random.randint(top_key, (), 0, size - height + 1)
    left = jax.random.randint(left_key, (), 0, size - width + 1)
    return top, left, height, width


def inside(size: int, top: jax.Array, left: jax.Array, height: jax.Array, width: jax.Array) -> jax.Array:
    """Returns the (size, size, 1) bool mask of a rectangle."""
    places = jnp.arange(size)
    rows = (places >= top) & (places < top + height)
    columns = (places >= left) & (places < left + width)
    return (rows[:, None] & columns)[..., None]


def erase(key: jax.Array, image: jax.Array, probability: float) -> jax.Array:
    """Returns an (S, S, 3) float image in [0, 1] in which, with a given probability, a rectangle is uniform noise.

    The paper recommends noise: a model could learn a constant colour.
    """
    whether_key, rectangle_key, noise_key = jax.random.split(key, 3)
    erased = inside(image.shape[0], *draw_rectangle(rectangle_key, image.shape[0]))
    erased &= jax.random.bernoulli(whether_key, probability)
    return jnp.where(erased, jax.random.uniform(noise_key, image.shape), image)


def _augment_one(key: jax.Array, image: jax.Array, size: int, augmentation: Augmentation) -> jax.Array:
    crop_key, flip_key, order_key, factor_key, hue_key = jax.random.split(key, 5)
    margin = jnp.asarray([image.shape[0] - size, image.shape[1] - size])
    top, left = jax.random.randint(crop_key, (2,), 0, margin + 1)
    image = crop(image, top, left, size).astype(jnp.float32) / 255.0
    image = jnp.where(jax.random.bernoulli(flip_key, augmentation.flip), image[:, ::-1], image)
    widths = jnp.asarray([augmentation.brightness, augmentation.contrast, augmentation.saturation])
    if max(augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue) > 0:
        factors = jax.random.uniform(factor_key, (3,), minval=jnp.maximum(0.0, 1.0 - widths), maxval=1.0 + widths)
        hue = jax.random.uniform(hue_key, minval=-augmentation.hue, maxval=augmentation.hue)
        image = jitter(image, jax.random.permutation(order_key, 4), factors, hue)
    if augmentation.erasing > 0:
        image = erase(jax.random.fold_in(key, ERASING), image, augmentation.erasing)
    return image


def augment(keys: jax.Array, images: jax.Array, size: int, augmentation: Augmentation) -> jax.Array:
    """Returns randomly cropped, flipped, jittered and erased images.

    Args:
      keys: (batch,) random keys, one per example.
      images: (batch, H, W, 3) uint8, H and W at least `size`.
      size: side of the crop in pixels.
      augmentation: the ranges of the random changes.

    Returns:
      (batch, size, size, 3) float32 in [0, 1].
    """
    return jax.vmap(lambda key, image: _augment_one(key, image, size, augmentation))(keys, images)
