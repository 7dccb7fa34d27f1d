import os
import warnings

import pytest
from PIL import Image

from tfds_builders.common.image_files import MAX_NAMES, ImageFolder, broken_images, report_broken


@pytest.fixture
def folder(tmp_path):
    for name in ("faces/446", "faces/0007", "data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("faces/446/1.jpg", "faces/0007/1.jpg", "data/1.jpg", "1.jpg"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    return tmp_path


def test_find_tries_numeric_folders_with_three_and_four_digits(folder):
    images = ImageFolder(folder, "faces")
    assert images.find("0446/1.jpg") == folder / "faces" / "446" / "1.jpg"
    assert images.find("007/1.jpg") == images.find("7/1.jpg") == folder / "faces" / "0007" / "1.jpg"
    assert images.find("9/1.jpg") == folder / "faces" / "9" / "1.jpg"


@pytest.mark.parametrize(
    ("link", "target"),
    [("8", "{outside}"), ("0008", "{outside}"), ("446/2.jpg", "{outside}/1.jpg"), ("446/2.jpg", "{outside}/gone.jpg")],
)
def test_find_refuses_links_out_of_the_manual_folder(folder, tmp_path_factory, link, target):
    outside = tmp_path_factory.mktemp("outside")
    Image.new("RGB", (16, 16)).save(outside / "1.jpg")
    (folder / "faces" / link).symlink_to(target.format(outside=outside))
    with pytest.raises(ValueError, match=rf"is a link out of .*faces, to {outside}.*; put the file itself there"):
        ImageFolder(folder, "faces").find("446/2.jpg" if link == "446/2.jpg" else "8/1.jpg")


def test_find_refuses_a_sibling_folder_with_the_same_prefix(folder):
    outside = folder.with_name(folder.name + "_2")
    outside.mkdir()
    (folder / "faces" / "8").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link out of"):
        ImageFolder(folder, "faces").find("8/1.jpg")


def test_find_follows_links_within_the_manual_folder(folder):
    (folder / "faces" / "446" / "2.jpg").symlink_to("../../data/1.jpg")
    (folder / "link").symlink_to(folder)
    for manual in (folder, folder / "link"):
        assert broken_images([ImageFolder(manual, "faces").find("446/2.jpg")]) == {}


@pytest.mark.parametrize(
    ("format_", "mode", "fault"),
    [
        ("JPEG", "RGB", None),
        ("PNG", "RGB", "not JPEG"),
        ("GIF", "P", "not JPEG"),
        ("JPEG", "L", "not RGB but L"),
        ("JPEG", "CMYK", "not RGB but CMYK"),
    ],
)
def test_image_fault_accepts_only_rgb_jpeg_content(tmp_path, format_, mode, fault):
    Image.new(mode, (16, 16)).save(tmp_path / "a.jpg", format_)
    assert broken_images([tmp_path / "a.jpg"]).get(0) == fault


def test_broken_images_reports_truncated_empty_and_missing_files(tmp_path):
    Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    names = ("whole", "cut", "empty", "folder", "gone", "n" * 300)
    faults = broken_images([tmp_path / f"{name}.jpg" for name in names])
    assert list(faults) == [1, 2, 3, 4, 5]
    assert [faults[place].split(":")[0] for place in faults] == ["broken", "not JPEG", "broken", "missing", "broken"]


@pytest.mark.parametrize("side", [10, 14])
def test_image_above_pillows_limit_is_a_fault_without_a_warning(tmp_path, monkeypatch, side):
    Image.new("RGB", (side, side)).save(tmp_path / "a.jpg")
    assert broken_images([tmp_path / "a.jpg"]) == {}
    # Pillow warns beyond its limit, raises beyond twice its limit.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert broken_images([tmp_path / "a.jpg"]) == {0: "more than 80 pixels, Pillow's limit"}
    assert not shown


def test_report_broken_counts_all_and_names_ten(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(MAX_NAMES + 5)]
    faults = broken_images(paths)
    report_broken(paths, {}, skip=False)
    with pytest.raises(ValueError, match=r"^15 of 15 images are missing, .*: `animesion build --skip_") as error:
        report_broken(paths, faults, skip=False)
    assert [f"{os.sep}{number}.jpg (missing)" in str(error.value) for number in range(15)] == [True] * 10 + [False] * 5
