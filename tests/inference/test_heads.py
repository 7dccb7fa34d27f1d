"""Which detector and margin a bundle's model gets, and the crops of its heads."""

import numpy as np
import pytest
from PIL import Image

from animesion_jax.bundle import build_bundle
from animesion_jax.detection import DEFAULT
from animesion_jax.errors import InputError
from animesion_jax.inference import heads
from animesion_jax.inference.heads import HeadFinder, head_finder
from animesion_jax.preprocessing import Margin
from tests.hostile_seeds import CROPS, bundle_tree
from tests.known_boxes import KnownBoxes


@pytest.fixture
def detector(monkeypatch):
    detector = KnownBoxes()
    monkeypatch.setattr(heads, "load_detector", detector.load)
    return detector


def _bundle(**crops):
    return build_bundle("a bundle", bundle_tree() | ({"crops": CROPS | crops} if crops else {}))


def test_margin_of_the_bundle_is_used_for_the_same_file_only(detector, caplog):
    finder = head_finder(_bundle(sha256="a" * 64, detector="renamed.onnx"), "x/boxes.onnx", 0.3)
    assert finder.margin == Margin(1.5, 0.25, "pad") and not caplog.text
    assert detector.loaded == ("x/boxes.onnx", 0.3) and finder.detector is detector
    finder = head_finder(_bundle(sha256="b" * 64), "x/boxes.onnx")
    assert finder.margin == Margin(1.0, 0.0, "squash")
    assert "no margin for boxes.onnx (it has one for heads.xml, SHA-256 bbbbbbbb)" in caplog.text
    caplog.clear()
    assert head_finder(_bundle(), "x/boxes.onnx").margin == Margin(1.0, 0.0, "squash")
    assert "no margin for boxes.onnx (it has none)" in caplog.text and "animesion calibrate" in caplog.text


def test_auto_is_the_detector_of_the_bundle_or_the_default_one(detector):
    head_finder(_bundle(detector="hf://them/heads/m.onnx"), "auto", 0.5)
    assert detector.loaded == ("hf://them/heads/m.onnx", 0.5)
    head_finder(_bundle())
    assert detector.loaded == (DEFAULT, None)
    with pytest.raises(InputError, match=r"local file heads\.xml; give its path: --detector=FOLDER/heads\.xml"):
        head_finder(_bundle(detector="heads.xml"))


def test_finder_cuts_the_margin_around_each_box(detector, tmp_path):
    """The picture's red and green are the column and the row, so that a crop's corners tell where it is from."""
    rows, columns = np.mgrid[:200, :100]
    picture = Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))
    image = Image.open(detector.write(tmp_path / "a.png", picture, [(30, 80, 50, 120), (0, 0, 10, 10)]))
    finder = HeadFinder(detector, Margin(1.5, 0.25, "pad"), 8)
    first, second = finder.find(image)
    assert (first.box, first.confidence, second.box) == ((30, 80, 50, 120), 0.875, (0, 0, 10, 10))
    # 30 x 60 around (40, 90), and 15 x 15 around (5, 2.5) without the part above and left of the picture.
    crop = np.asarray(finder.crop(image, first.box))
    assert crop.shape == (60, 30, 3) and (*crop[0, 0][:2], *crop[-1, -1][:2]) == (25, 60, 54, 119)
    crop = np.asarray(finder.crop(image, second.box))
    assert crop.shape == (10, 12, 3) and (*crop[0, 1][:2], *crop[-1, -1][:2]) == (1, 0, 11, 9)
    # The input of the model is the crop on a white square, resized by Pillow.
    square = np.full((60, 60, 3), 255, np.uint8)
    square[:, 15:45] = np.asarray(image)[60:120, 25:55]
    expected = np.asarray(Image.fromarray(square).resize((8, 8), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(first.pixels.astype(int), expected, atol=1)


def test_of_thousands_of_boxes_the_most_confident_ones_are_cut(detector, tmp_path):
    boxes = [(n % 50, n // 50, n % 50 + 5, n // 50 + 5) for n in range(heads.MAX_HEADS + 200)]
    image = Image.open(detector.write(tmp_path / "a.png", Image.new("RGB", (60, 60)), boxes))
    found = HeadFinder(detector, Margin(1.0, 0.0, "squash"), 2).find(image)
    assert [head.box for head in found] == boxes[: heads.MAX_HEADS]
