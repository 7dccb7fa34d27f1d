import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from animesion_jax.preprocessing import normalize
from animesion_jax.training import augment as augmenting
from animesion_jax.training.augment import Augmentation

# One program each instead of one an operation, which took most of this file's time.
augment = jax.jit(augmenting.augment, static_argnums=(2, 3))
jitter, shift_hue = jax.jit(augmenting.jitter), jax.jit(augmenting.shift_hue)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 10, 3)).astype(np.uint8)
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
KEYS = jax.random.split(jax.random.key(0), 256)


def _jitter(order, factors, hue):
    image = jnp.asarray(IMAGE, jnp.float32) / 255
    return np.asarray(jitter(image, jnp.asarray(order), jnp.asarray(factors), jnp.float32(hue)))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_jitter_follows_pillow_in_any_order(order):
    factors = (1.1, 0.92, 1.07)
    pillow = Image.fromarray(IMAGE)
    for kind in order:
        if kind < 3:
            pillow = ENHANCERS[kind](pillow).enhance(factors[kind])
    # Pillow cuts the fraction off after each of the three: up to 1 each.
    np.testing.assert_allclose(_jitter(order, factors, 0.0) * 255, np.asarray(pillow), atol=3.0)


@pytest.mark.parametrize("shift", [-0.5, 0.07, 0.33])
def test_shift_hue_follows_colorsys(shift):
    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value)

    image = np.concatenate([IMAGE / 255.0, np.full((1, 10, 3), 0.4)])  # grey has no hue
    expected = np.apply_along_axis(turned, -1, image)
    np.testing.assert_allclose(shift_hue(jnp.asarray(image, jnp.float32), shift), expected, atol=2e-5)


def test_jitter_turns_the_hue_at_its_place_in_the_order():
    factors = (1.3, 0.6, 0.2)
    first = _jitter((3, 0, 1, 2), factors, 0.2)
    image = np.asarray(shift_hue(jnp.asarray(IMAGE, jnp.float32) / 255, 0.2))
    image = np.clip(image * 1.3, 0, 1)
    luma = image @ np.asarray([0.299, 0.587, 0.114])
    image = np.clip(0.6 * image + 0.4 * luma.mean(), 0, 1)
    luma = image @ np.asarray([0.299, 0.587, 0.114])
    np.testing.assert_allclose(first, 0.2 * image + 0.8 * luma[..., None], atol=1e-5)
    assert np.abs(first - _jitter((0, 1, 2, 3), factors, 0.2)).max() > 0.02


def test_augment_crops_windows_at_every_offset():
    image = jnp.arange(6 * 6 * 3, dtype=jnp.uint8).reshape(6, 6, 3)
    out = np.asarray(augment(KEYS, jnp.broadcast_to(image, (256, 6, 6, 3)), 4, Augmentation(flip=0.0)))
    windows = {np.asarray(image)[t : t + 4, l : l + 4].tobytes() for t in range(3) for l in range(3)}  # noqa: E741
    assert {np.rint(crop * 255).astype(np.uint8).tobytes() for crop in out} == windows


def test_augment_flips_half_of_the_images():
    images = jnp.broadcast_to(jnp.asarray(IMAGE[:8, :8]), (256, 8, 8, 3))
    out = np.rint(np.asarray(augment(KEYS, images, 8, Augmentation(flip=0.5))) * 255)
    flipped = (out == IMAGE[:8, :8][:, ::-1]).all((1, 2, 3))
    assert ((out == IMAGE[:8, :8]).all((1, 2, 3)) | flipped).all()
    assert 0.4 < flipped.mean() < 0.6


def test_augment_of_an_example_ignores_the_batch_around_it():
    images = jnp.asarray(RNG.integers(0, 256, (8, 12, 12, 3)), jnp.uint8)
    augmentation = Augmentation(0.5, 0.1, 0.1, 0.1, 0.1)
    whole = augment(KEYS[:8], images, 8, augmentation)
    np.testing.assert_allclose(augment(KEYS[3:5], images[3:5], 8, augmentation), whole[3:5], atol=1e-6)
    assert float(jnp.abs(whole[:2] - augment(KEYS[8:10], images[:2], 8, augmentation)).max()) > 0.01


def test_augment_draws_jitter_factors_over_their_range():
    images = jnp.full((256, 4, 4, 3), 100, jnp.uint8)
    out = np.asarray(augment(KEYS, images, 4, Augmentation(0.0, brightness=0.1)))[:, 0, 0, 0] / (100 / 255)
    assert 0.9 <= out.min() < 0.91 and 1.09 < out.max() <= 1.1001


def test_normalize_scales_uint8_once():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    expected = (IMAGE / 255.0 - mean) / std
    np.testing.assert_allclose(normalize(jnp.asarray(IMAGE), mean, std), expected, atol=1e-5)
    np.testing.assert_allclose(normalize(jnp.asarray(IMAGE / 255.0, jnp.float32), mean, std), expected, atol=1e-5)


def _published_rectangle(random, size):
    """Returns a rectangle of random erasing as in the paper: draws again until the rectangle is inside."""
    while True:
        area = random.uniform(0.02, 0.33)
        aspect = np.exp(random.uniform(np.log(0.3), np.log(3.3)))
        height, width = (round(size * side) for side in (np.sqrt(area * aspect), np.sqrt(area / aspect)))
        if height < size and width < size:
            return random.integers(0, size - height + 1), random.integers(0, size - width + 1), height, width


def test_draw_rectangle_has_the_published_distribution():
    size = 1000
    keys = jax.random.split(jax.random.key(0), 6000)
    ours = np.float64(jax.jit(jax.vmap(lambda key: jnp.stack(augmenting.draw_rectangle(key, size))))(keys)).T
    random = np.random.default_rng(0)
    theirs = np.asarray([_published_rectangle(random, size) for _ in range(20_000)]).T
    for top, left, height, width in (ours, theirs):
        assert min(top.min(), left.min()) >= 0 and max((top + height).max(), (left + width).max()) <= size
    quantiles = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]
    for measure, tolerance in (
        (lambda top, left, height, width: height * width / size**2, 0.01),
        (lambda top, left, height, width: np.log(height / width), 0.06),
        (lambda top, left, height, width: top / (size - height + 1), 0.03),
        (lambda top, left, height, width: left / (size - width + 1), 0.03),
        (lambda top, left, height, width: height / size, 0.02),
    ):
        np.testing.assert_allclose(
            np.quantile(measure(*ours), quantiles), np.quantile(measure(*theirs), quantiles), atol=tolerance
        )


def test_erasing_puts_noise_on_one_rectangle_and_changes_nothing_else():
    images = RNG.integers(0, 256, (400, 24, 24, 3), dtype=np.uint8)
    keys = jax.random.split(jax.random.key(1), 400)
    drawn = {"flip": 0.5, "brightness": 0.1, "hue": 0.1}
    plain, erased = (
        np.asarray(augment(keys, images, 20, Augmentation(**drawn, erasing=probability))) for probability in (0.0, 0.25)
    )
    changed = (plain != erased).any(-1)
    # 0.25 +- 4 standard deviations.
    assert changed.any((1, 2)).mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 400))
    for mask in changed[changed.any((1, 2))]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.01 < mask.mean() < 0.36
    noise = erased[changed]
    np.testing.assert_allclose(np.quantile(noise, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    assert np.abs(np.corrcoef(noise.T)[np.triu_indices(3, 1)]).max() < 0.05
