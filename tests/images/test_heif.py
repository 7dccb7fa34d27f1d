"""HEIC, the format of phones' photos, with the package pillow-heif and without."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.images import describe, find_images, formats, is_image_name, read_image, reading
from tfds_builders.folder.storage import encode, is_decoded_alike

PIXELS = np.kron(np.random.default_rng(5).integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


@pytest.fixture
def photo(tmp_path):
    assert "HEIF" in formats()
    Image.fromarray(PIXELS).save(tmp_path / "IMG_0001.HEIC", quality=-1, chroma=444)
    return tmp_path / "IMG_0001.HEIC"


@pytest.fixture
def without_heif(photo, monkeypatch):
    """The path of a HEIC file; pillow-heif is not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.cache_clear()
    yield photo
    formats.cache_clear()


def test_heic_is_read_like_other_formats(photo):
    for source in (photo, photo.read_bytes()):
        np.testing.assert_allclose(np.asarray(read_image(source), int), PIXELS, atol=6)
    with ThreadPoolExecutor(4) as pool:
        assert len({image.tobytes() for image in pool.map(read_image, [photo] * 40)}) == 1
    assert find_images([str(photo.parent)]) == [photo]


def test_heic_with_transparency_is_pasted_onto_white(tmp_path):
    path = tmp_path / "a.heif"
    Image.new("RGBA", (64, 48), (0, 0, 255, 0)).save(path, quality=-1)
    assert np.asarray(read_image(path)).min() >= 250


def test_heic_is_stored_as_png_for_training(photo):
    image = read_image(photo)
    assert not is_decoded_alike(photo, image)
    stored = encode(photo, keep_bytes=False)
    assert stored.startswith(b"\x89PNG")
    np.testing.assert_array_equal(read_image(stored), image)


def test_damaged_and_too_large_heic_is_refused(photo, monkeypatch):
    data = photo.read_bytes()
    for cut in (20, 200, len(data) // 2, len(data) - 9):
        with pytest.raises(InputError, match="not a readable image"):
            read_image(data[:cut])
    monkeypatch.setattr(reading, "FREE_PIXELS", 50)
    monkeypatch.setattr(reading, "PIXELS_PER_BYTE", 0)
    with pytest.raises(InputError, match="too large: 64 x 48 pixels"):
        read_image(photo)


def test_without_pillow_heif_the_messages_name_it(without_heif, tmp_path, caplog):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert not is_image_name(without_heif.name) and "HEIF" not in formats()
    with caplog.at_level("INFO", "animesion_jax"):
        assert find_images([str(tmp_path)]) == [tmp_path / "a.png"]
    assert caplog.messages == ["left out in folders: .heic 1; to read HEIC: pip install 'animesion-jax[heic]'"]
    assert "pip" not in describe({".txt": 1})
    renamed = without_heif.rename(tmp_path / "renamed.jpg")
    with pytest.raises(InputError, match=r"^HEIC files need pillow-heif; install it: pip install 'animesion-jax\[heic"):
        read_image(renamed)
