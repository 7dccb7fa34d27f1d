"""OpenCV's cascades: a real one against OpenCV called directly, and files that are no cascades."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from tests.conftest import SHARED

XML = SHARED / "detector" / "lbpcascade_animeface.xml"


@pytest.fixture(scope="module")
def picture():
    """Real faces of several sides on one picture of 700 x 500 pixels."""
    files = sorted((SHARED / "realfaces" / "holo").glob("*/*.jpg"))[::900][:8]
    picture = Image.new("RGB", (700, 500), "lightblue")
    for number, file in enumerate(files):
        side = (90, 128, 150)[number % 3]
        face = Image.open(file).convert("RGB").resize((side, side))
        picture.paste(face, (10 + number % 4 * 170, 20 + number // 4 * 240))
    return picture


@pytest.mark.shared
def test_boxes_are_those_of_opencv_with_the_author_s_settings(picture):
    grey = cv2.equalizeHist(cv2.cvtColor(np.asarray(picture)[..., ::-1], cv2.COLOR_BGR2GRAY))
    squares, counts = cv2.CascadeClassifier(str(XML)).detectMultiScale2(grey, 1.1, 5, 0, (24, 24))
    expected = {(x, y, x + width, y + height): n for (x, y, width, height), n in zip(squares, counts, strict=True)}
    assert len(expected) >= 2
    detect = load_detector(str(XML))
    found = detect(picture)
    assert {each.box for each in found} == set(expected) and len(found) == len(expected)
    assert detect.name == "lbpcascade_animeface.xml" and len(detect.sha256) == 64
    assert [each.confidence for each in found] == sorted((n / (n + 5) for n in expected.values()), reverse=True)
    assert all(each.confidence == expected[each.box] / (expected[each.box] + 5) for each in found)


@pytest.mark.shared
def test_min_confidence_leaves_out_boxes_below_it(picture):
    found = load_detector(str(XML))(picture)
    limit = found[len(found) // 2].confidence
    kept = [each for each in found if each.confidence >= limit]
    assert load_detector(str(XML), limit)(picture) == kept
    assert load_detector(str(XML), 1.0)(picture) == []


@pytest.mark.shared
def test_many_threads_find_what_one_finds(picture):
    detect = load_detector(str(XML))
    pictures = [picture, picture.rotate(90, expand=True), picture.crop((0, 0, 350, 250))] * 4
    expected = [load_detector(str(XML))(each) for each in pictures]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(detect, pictures)) == expected


CUT = (
    '<?xml version="1.0"?>\n<opencv_storage>\n<cascade type_id="opencv-cascade-classifier"><stageType>BOOST</stageType>'
)
OTHER = '<?xml version="1.0"?>\n<opencv_storage><faces>1</faces></opencv_storage>'


@pytest.mark.parametrize("text", ["", "a text", CUT, OTHER, "<svg/>"], ids=["empty", "text", "cut", "other", "svg"])
def test_file_that_is_no_cascade_is_refused(tmp_path, text):
    (tmp_path / "d.xml").write_text(text)
    with pytest.raises(InputError) as refused:
        load_detector(str(tmp_path / "d.xml"))
    assert "d.xml is not a cascade; allowed: OpenCV's XML, such as lbpcascade_animeface.xml" in str(refused.value)


@pytest.mark.shared
def test_cut_real_cascade_is_refused(tmp_path):
    whole = XML.read_bytes()
    for size in (len(whole) // 2, len(whole) - 300):
        (tmp_path / "d.xml").write_bytes(whole[:size])
        with pytest.raises(InputError, match="is not a cascade"):
            load_detector(str(tmp_path / "d.xml"))


def test_opencv_5_has_no_cascades(tmp_path, monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    (tmp_path / "d.xml").write_text(OTHER)
    with pytest.raises(
        InputError, match=r"OpenCV 5.0.0 has no cascades; allowed: opencv-python-headless 4.11 .*detect"
    ):
        load_detector(str(tmp_path / "d.xml"))
