import shutil
import subprocess
import unicodedata

import pytest
from PIL import Image

from animesion_jax.errors import InputError
from tests.character_folders import TEST_NAMES, draw_folder, draw_image
from tfds_builders.folder.layout import read_layout
from tfds_builders.folder.survey import survey


def _names(found, split):
    return {image.name for image, _ in found.chosen.get(split, [])}


def _refused(folder, *words, **options):
    with pytest.raises(InputError) as caught:
        survey(read_layout(folder), **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    return message


def test_folder_without_splits_is_split_by_the_rule_in_order_of_names(tmp_path):
    found = survey(read_layout(draw_folder(tmp_path)))
    assert found.characters == ["ai", "mi ku", "初音"]
    assert {split: len(each) for split, each in found.chosen.items()} == {"train": 23, "validation": 2, "test": 9}
    assert _names(found, "test") == TEST_NAMES
    assert _names(found, "validation") == {"ai/14.png", "初音/02.png"}
    assert found.report["by_class"]["mi ku"] == {"train": 7, "validation": 0, "test": 3}
    assert found.report["splits"] == {"train": 23, "validation": 2, "test": 9}
    assert "3 characters" not in " ".join(found.warnings)
    assert any("2 characters have fewer than 20 images" in each for each in found.warnings)


def test_split_folders_keep_their_splits_and_share_class_ids(tmp_path):
    draw_folder(tmp_path / "Train", {"b": 3, "c": 1, "a": 2})
    draw_folder(tmp_path / "val", {"c": 2}, start=1)
    found = survey(read_layout(tmp_path))
    assert found.characters == ["a", "b", "c"]
    assert found.report["splits"] == {"train": 6, "validation": 2, "test": 0}
    assert list(found.chosen) == ["train", "validation"] and _names(found, "validation") == {
        "val/c/00.png",
        "val/c/01.png",
    }


def test_character_without_training_image_is_refused(tmp_path):
    draw_folder(tmp_path / "train", {"a": 2, "b": 2})
    draw_folder(tmp_path / "test", {"a": 1, "unseen": 3}, start=1)
    _refused(tmp_path, "1 characters have no image in train: 'unseen' (3)", "remove")


def test_two_unicode_forms_of_one_name_are_refused(tmp_path):
    for form in ("NFC", "NFD"):
        draw_folder(tmp_path, {unicodedata.normalize(form, "ガール"): 2})
    _refused(tmp_path, "same name in different Unicode forms: 'ガール': put them together")


def test_other_files_are_left_out_and_counted(tmp_path):
    draw_folder(tmp_path, {"a": 2, "b": 2})
    draw_image(tmp_path / "a" / "deep" / "er" / "x.PNG", 7)
    draw_image(tmp_path / "loose.png", 8)
    for name in ("a/._00.png", ".cache/x.png", "a/.thumbs/x.png", "a/00.png.explained.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    for name in ("a/Thumbs.db", "a/desktop.ini", "b/color.csv", "list.csv"):
        (tmp_path / name).write_text("no image")
    found = survey(read_layout(tmp_path))
    assert found.report["images"] == 5 and "a/deep/er/x.PNG" in _names(found, "test")
    assert found.report["left_out"]["other_files"] == {
        ".csv": 2, "hidden or system": 5, "overlays of explain": 1
    }  # fmt: skip
    assert found.report["left_out"]["in_no_characters_folder"] == ["loose.png"]
    assert "left out: hidden or system 5, .csv 2, overlays of explain 1" in found.warnings


def test_survey_reports_all_problems_in_one_message(tmp_path):
    draw_folder(tmp_path, {"a": 20, "one": 1, "new\nline": 2})
    (tmp_path / "none").mkdir()
    for i in range(12):
        (tmp_path / "a" / f"broken{i:02d}.jpg").write_text("no image")
    message = _refused(
        tmp_path,
        "12 of 35 images cannot be read: a/broken00.jpg (not a readable image",
        "a/broken09.jpg",
        "; ...: repair",
        "--config.skip_broken=True",
        "2 characters have fewer than 2 images, one to train on and one to test: 'none' (0); 'one' (1): add",
        "--config.min_images=2",
        r"1 folder names are not one line of text: 'new\nline': rename",
    )
    assert "broken10" not in message


def test_skip_broken_and_min_images_leave_out_and_report(tmp_path):
    draw_folder(tmp_path, {"a": 3, "b": 2, "one": 1})
    (tmp_path / "a" / "cut.png").write_bytes((tmp_path / "a" / "00.png").read_bytes()[:-40])
    found = survey(read_layout(tmp_path), min_images=2, skip_broken=True)
    assert found.characters == ["a", "b"] and found.report["images"] == 5
    assert found.report["splits"] == {"train": 3, "validation": 0, "test": 2}
    assert list(found.report["left_out"]["unreadable"]) == ["a/cut.png"]
    assert found.report["left_out"]["small_characters"] == {"one": 1}
    assert "left out: characters with fewer than 2 images (1): 'one' (1)" in found.warnings
    _refused(tmp_path, "1 characters with 3 images or more; needed: two", min_images=3, skip_broken=True)


def test_copies_of_bytes_or_pixels_are_left_out_before_splitting(tmp_path):
    draw_folder(tmp_path, {"a": 10, "b": 2})
    shutil.copy(tmp_path / "a" / "00.png", tmp_path / "a" / "zz.png")
    Image.open(tmp_path / "a" / "01.png").save(tmp_path / "a" / "zz.bmp")
    found = survey(read_layout(tmp_path))
    assert found.report["left_out"]["copies"] == {"a/zz.png": "a/00.png", "a/zz.bmp": "a/01.png"}
    assert found.report["by_class"]["a"] == {"train": 7, "validation": 0, "test": 3}
    assert any("copies of an image that is kept (2)" in each for each in found.warnings)


def test_copy_in_several_splits_stays_in_test_then_in_validation(tmp_path):
    for split in ("train", "validation", "test"):
        draw_folder(tmp_path / split, {"a": 3, "b": 3}, start=len(split))
    test, validation, train = (tmp_path / split / "a" for split in ("test", "validation", "train"))
    shutil.copy(test / "00.png", train / "zz.png")
    shutil.copy(test / "00.png", validation / "zz.png")
    shutil.copy(train / "01.png", validation / "yy.png")
    found = survey(read_layout(tmp_path))
    assert found.report["left_out"]["copies"] == {
        "train/a/zz.png": "test/a/00.png",
        "validation/a/zz.png": "test/a/00.png",
        "train/a/01.png": "validation/a/yy.png",
    }
    assert found.report["by_class"]["a"] == {"train": 2, "validation": 4, "test": 3}


def test_image_under_two_characters_is_left_out_of_both(tmp_path):
    draw_folder(tmp_path, {"a": 3, "b": 3})
    shutil.copy(tmp_path / "a" / "01.png", tmp_path / "b" / "other.png")
    found = survey(read_layout(tmp_path))
    assert found.report["left_out"]["under_several_characters"] == [["a/01.png", "b/other.png"]]
    assert found.report["images"] == 5
    assert any("a/01.png = b/other.png" in each for each in found.warnings)


def test_images_one_level_deeper_are_reported_with_the_folder_to_train_on(tmp_path):
    draw_folder(tmp_path / "a b" / "series 1", {"x": 20, "y": 20})
    draw_folder(tmp_path / "a b" / "series 2", {"x": 20, "z": 20}, start=1)
    found = survey(read_layout(tmp_path / "a b"))
    assert found.characters == ["series 1", "series 2"]
    warning = found.warnings[0]
    assert warning == (
        "the folders 'series 1'; 'series 2' have only folders; if the characters are one level deeper, train on one "
        f"with --config.folder='{tmp_path}/a b/series 1', or on all with a folder of links: "
        f"mkdir NEW; ln -s '{tmp_path}/a b'/*/* NEW/"
    )
    # The second "x" is an error of ln.
    subprocess.run(["bash", "-c", warning.partition("links: ")[2]], cwd=tmp_path, check=False, capture_output=True)
    linked = read_layout(tmp_path / "NEW")
    assert linked.characters == ["x", "y", "z"] and len(linked.images) == 60


def test_subfolders_of_some_characters_give_no_warning(tmp_path):
    draw_folder(tmp_path / "a", {"school": 20, "casual": 20})
    draw_folder(tmp_path, {"b": 20}, start=1)
    assert survey(read_layout(tmp_path)).warnings == []


def test_one_folder_of_characters_is_refused_with_the_folder_to_train_on(tmp_path):
    draw_folder(tmp_path / "unpacked", {"a": 2, "b": 2})
    _refused(tmp_path, "1 characters with 1 images or more; needed", f"one with --config.folder={tmp_path}/unpacked")


def test_characters_one_level_deeper_in_splits_are_reported(tmp_path):
    draw_folder(tmp_path / "train" / "series", {"a": 20, "b": 20})
    _refused(tmp_path, "needed: two or more", f"move their folders up, to {tmp_path}/train/CHARACTER/IMAGE")
