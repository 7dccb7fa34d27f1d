"""Decoding and resizing in TensorFlow and in Pillow, with both values of config.fit."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from animesion_jax import preprocessing
from animesion_jax.config import FIELDS
from animesion_jax.data.decode import decode_and_resize
from animesion_jax.preprocessing import FITS, resize
from tests.conftest import SHARED

# Width and height: wide, tall, square, tiny, one pixel, 64 itself and beside it.
SHAPES = [
    (97, 31), (31, 97), (240, 7), (7, 240), (80, 80), (5, 4), (2, 3), (1, 1), (1, 90), (90, 1), (64, 64), (64, 63),
    (50, 64), (33, 1500),
]  # fmt: skip


def _jpegs():
    folder = SHARED / "realfaces" / "daf" / "data"
    files = sorted(folder.rglob("*.jpg"))[:60]
    return [file.read_bytes() for file in files]


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _drawn(shape):
    """Returns an image of random blocks of 3 x 3 pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (-(-shape[1] // 3), -(-shape[0] // 3), 3), np.uint8)
    return Image.fromarray(pixels.repeat(3, axis=0).repeat(3, axis=1)[: shape[1], : shape[0]])


def _square(image):
    """Returns an image in the middle of a white square; an odd line of padding is at the right or at the bottom."""
    missing = [max(image.size) - side for side in image.size]
    before = [each // 2 for each in missing]
    after = [each - first for each, first in zip(missing, before, strict=True)]
    return ImageOps.expand(image, (*before, *after), "white")


@pytest.mark.shared
@pytest.mark.parametrize("size", [64, 160])
def test_decode_and_resize_agrees_with_pillow_and_predict(size):
    for jpeg in _jpegs():
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        ours = decode_and_resize(tf.constant(jpeg), size, "squash").numpy()
        theirs = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        # The resize of predict, which has no TensorFlow.
        np.testing.assert_array_equal(resize(image, size, "squash"), ours)
        # Faces that are not square.
        cut = image.crop((0, 0, image.width // 2, image.height))
        padded = decode_and_resize(_png(cut), size, "pad")
        np.testing.assert_array_equal(resize(cut, size, "pad"), padded)
        np.testing.assert_array_equal(resize(_square(cut), size, "squash"), padded)


def test_every_value_of_the_field_has_a_description():
    assert FIELDS["fit"].allowed.description == ", ".join(FITS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("band", [100, 2**20])
def test_tensorflow_and_predict_pad_like_pillows_expand(shape, band, monkeypatch):
    monkeypatch.setattr(preprocessing, "BAND_PIXELS", band)
    image = _drawn(shape)
    for size in (16, 64):
        for fit, shown in (("squash", image), ("pad", _square(image))):
            ours = resize(image, size, fit)
            assert ours.shape == (size, size, 3) and ours.dtype == np.uint8 and ours.flags.c_contiguous
            np.testing.assert_array_equal(ours, decode_and_resize(_png(image), size, fit))
            np.testing.assert_array_equal(ours, resize(shown, size, "squash"))


@pytest.mark.parametrize(
    ("shape", "place"),
    [((40, 20), np.s_[10:30]), ((20, 40), np.s_[:, 10:30]), ((39, 40), np.s_[:, :39]), ((40, 37), np.s_[1:38])],
)
def test_the_border_is_white_and_the_image_in_the_middle(shape, place):
    """Without a change of size; the smaller half of the padding is at the left and at the top."""
    image = Image.new("RGB", shape, (10, 20, 30))
    expected = np.full((40, 40, 3), 255)
    expected[place] = (10, 20, 30)
    np.testing.assert_array_equal(resize(image, 40, "pad"), expected)
    np.testing.assert_array_equal(decode_and_resize(_png(image), 40, "pad"), expected)
    assert (resize(image, 40, "squash") == (10, 20, 30)).all()


def test_an_unknown_fit_is_an_error():
    with pytest.raises(KeyError, match="crop"):
        resize(Image.new("RGB", (4, 3)), 8, "crop")
