"""The cascade on pictures above its limit of pixels: reduced, with boxes in pixels of the whole picture."""

import numpy as np
import pytest
from PIL import Image

from animesion_jax.detection import cascade, load_detector
from tests.conftest import SHARED

XML = SHARED / "detector" / "lbpcascade_animeface.xml"


def _picture(scale):
    """Returns a picture of 12 real faces, and their squares; every length is multiplied by `scale`."""
    files = sorted((SHARED / "realfaces" / "holo").glob("*/*.jpg"))[::650][:12]
    picture, squares = Image.new("RGB", (800 * scale, 600 * scale), "lightblue"), []
    for number, file in enumerate(files):
        left, top = (40 + number % 4 * 190) * scale, (40 + number // 4 * 190) * scale
        face = Image.open(file).convert("RGB").resize((120 * scale, 120 * scale), Image.Resampling.BICUBIC)
        picture.paste(face, (left, top))
        squares.append((left, top, left + 120 * scale, top + 120 * scale))
    return picture, np.array(squares)


@pytest.mark.shared
def test_boxes_on_a_large_picture_are_in_its_own_pixels():
    """7.7 megapixels are reduced by 2."""
    picture, squares = _picture(4)
    found = load_detector(str(XML))(picture)
    assert len(found) >= 2
    for box, _ in found:
        left, top = np.maximum(squares[:, :2], box[:2]).T
        right, bottom = np.minimum(squares[:, 2:], box[2:]).T
        shared = np.clip(right - left, 0, None) * np.clip(bottom - top, 0, None)
        assert shared.max() > 0.5 * (120 * 4) ** 2


@pytest.mark.shared
def test_a_picture_is_reduced_by_the_least_number_that_fits(monkeypatch):
    picture, _ = _picture(1)
    whole = load_detector(str(XML))(picture)
    monkeypatch.setattr(cascade, "MAX_PIXELS", 800 * 600)
    assert load_detector(str(XML))(picture) == whole
    squares_of_four = np.asarray(picture).astype(int).reshape(300, 2, 400, 2, 3).sum((1, 3))
    half = load_detector(str(XML))(Image.fromarray(np.uint8((squares_of_four + 2) // 4)))
    monkeypatch.setattr(cascade, "MAX_PIXELS", 800 * 600 - 1)
    assert load_detector(str(XML))(picture) == [
        (tuple(2 * edge for edge in box), confidence) for box, confidence in half
    ]


@pytest.mark.shared
@pytest.mark.parametrize("size", [(5001, 5003), (1, 5000), (5000, 1), (1, 1), (65535, 65)])
def test_boxes_are_inside_pictures_of_any_shape(size, monkeypatch):
    """The face fills the picture as far as it can, so that boxes reach its edges."""
    file = min((SHARED / "realfaces" / "holo" / "mumei").glob("*.jpg"))
    picture = Image.open(file).convert("RGB").resize(size)
    for box, confidence in load_detector(str(XML))(picture):
        assert 0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1] and 0.5 <= confidence <= 1


@pytest.mark.shared
@pytest.mark.parametrize("step", [1, -1])
def test_equal_confidences_have_one_order(step, monkeypatch):
    """OpenCV's threads change the order from call to call."""
    boxes, neighbors = [[9, 9, 30, 30], [50, 9, 30, 30], [9, 50, 30, 30]][::step], [6, 8, 6][::step]

    class Found:
        def detectMultiScale2(self, *_, **__):
            return np.array(boxes), np.array(neighbors)

    detect = load_detector(str(XML))
    monkeypatch.setattr(detect._by_thread, "classifier", Found())
    found = detect(Image.new("RGB", (99, 99)))
    assert [each.box for each in found] == [(50, 9, 80, 39), (9, 9, 39, 39), (9, 50, 39, 80)]
