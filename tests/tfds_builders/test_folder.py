import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.data.decode import decode_and_resize
from animesion_jax.images import read_image
from animesion_jax.preprocessing import FITS, resize
from tests.character_folders import draw_folder, random_pixels, stored_records
from tests.tfds_builders.builds import build
from tfds_builders.folder import storage
from tfds_builders.folder.folder_dataset_builder import Builder, FolderConfig


class FolderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 23, "validation": 2, "test": 9}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._drawn = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = str(draw_folder(Path(cls._drawn.name)))

    @classmethod
    def tearDownClass(cls):
        cls._drawn.cleanup()
        super().tearDownClass()


def _save_every_kind(root):
    """Writes an image of every format and mode for two characters, each with pixels of its own."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        rgb, alpha = Image.fromarray(random_pixels(ord(name), (40, 30, 3))), random_pixels(ord(name), (40, 30, 4))
        grey16 = np.random.default_rng(ord(name)).integers(0, 65536, (40, 30)).astype(np.uint16)
        blue = Image.new("RGB", (40, 30), "blue")
        for file, image, options in [
            ("rgb.jpg", rgb, {"quality": 90}),
            ("444.jpg", rgb.rotate(90), {"quality": 90, "subsampling": 0, "progressive": True}),
            ("grey.jpg", rgb.convert("L"), {}),
            ("cmyk.jpg", rgb.convert("CMYK"), {}),
            ("rgb.png", rgb, {}),
            ("alpha.png", Image.fromarray(alpha), {}),
            ("grey16.png", Image.fromarray(grey16), {}),
            ("key.png", rgb.rotate(180), {"transparency": tuple(int(v) for v in np.asarray(rgb.rotate(180))[0, 0])}),
            ("palette.png", rgb.quantize(32), {"transparency": 3}),
            ("animation.gif", rgb.quantize(16), {"save_all": True, "append_images": [blue], "duration": 9}),
            ("lossy.webp", rgb, {"quality": 80}),
            ("alpha.webp", Image.fromarray(alpha[::-1].copy()), {"lossless": True}),
            ("x.avif", rgb, {}),
            ("x.tiff", rgb.rotate(270), {}),
            ("grey16.tiff", Image.fromarray(grey16[::-1].copy()), {}),
            ("x.bmp", rgb.transpose(Image.Transpose.FLIP_LEFT_RIGHT), {}),
            ("x.ppm", rgb.transpose(Image.Transpose.FLIP_TOP_BOTTOM), {}),
        ]:
            image.save(root / name / file, **options)
    return root


def test_stored_pixels_of_every_format_and_mode_equal_those_of_predict(tmp_path):
    folder = _save_every_kind(tmp_path / "all kinds")
    builder = build(Builder, folder, tmp_path / "data", "images")
    records = stored_records(builder)
    assert len(records) == 34 and {record["label"] for record in records.values()} == {0, 1}
    for name, record in records.items():
        image = read_image(folder / name)
        for size in (24, 64):
            for fit in FITS:
                seen, predicted = decode_and_resize(record["image"], size, fit), resize(image, size, fit)
                np.testing.assert_array_equal(seen, predicted, err_msg=name)
    for name in ("rgb.jpg", "444.jpg", "rgb.png"):
        assert records[f"a/{name}"]["image"] == (folder / "a" / name).read_bytes()
    for name in ("grey16.tiff", "alpha.png", "lossy.webp"):
        assert records[f"a/{name}"]["image"].startswith(b"\x89PNG")


def test_large_webp_is_stored_as_jpeg_and_differs_by_one_level_after_resizing(tmp_path):
    ramp = np.linspace(0, 255, 1500, dtype=np.float32)
    noise = np.random.default_rng(3).normal(0, 6, (1100, 1500, 3))
    pixels = np.clip(ramp[None, :, None] * 0.8 + noise + [0, 20, 40], 0, 255).astype(np.uint8)
    path = tmp_path / "large.webp"
    Image.fromarray(pixels).save(path, quality=90)
    stored, image = storage.encode(path, keep_bytes=False), read_image(path)
    assert stored.startswith(b"\xff\xd8\xff") and not storage.is_decoded_alike(path, image)
    seen = np.asarray(decode_and_resize(stored, 128, "squash"), int)
    predicted = resize(image, 128, "squash").astype(int)
    assert np.abs(seen - predicted).max() <= 1


@pytest.mark.parametrize("value", [-1, "2"])
def test_folder_config_refuses_min_images_other_than_whole_numbers_from_0(value):
    with pytest.raises(ValueError, match="min_images"):
        FolderConfig(name="x", min_images=value)


def test_folder_config_refuses_crops_as_json():
    with pytest.raises(ValueError, match="allowed: none; train with --config"):
        FolderConfig(name="x", crops={"detector": "heads.onnx"})
