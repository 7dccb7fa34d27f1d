import csv
import shutil
import statistics
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.errors import InputError
from tests.conftest import ROOT, SHARED
from tests.tfds_builders.builds import assert_build_is_refused, build, encoded_examples
from tfds_builders.common import image_files
from tfds_builders.common.faces_config import FacesConfig
from tfds_builders.moeimouto.label_files import read_labels
from tfds_builders.moeimouto.moeimouto_dataset_builder import Builder

DUMMY = ROOT / "tfds_builders" / "moeimouto" / "dummy_data"
GREY = "015_c.c/face_15_2_7.png"
# Released folders by class id, with their numbers of images in train.csv and test.csv.
SIZES = ROOT / "tests" / "tfds_builders" / "moeimouto_split_sizes.csv"
SKIP = FacesConfig(name="skip", skip_broken=True)


class MoeimoutoTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    EXAMPLE_DIR = str(DUMMY)
    SPLITS = {"train": 8, "test": 3}


def _labels(builder) -> dict[str, dict[str, str]]:
    """Returns the class names by file name by split."""
    names = builder.info.features["label"].names
    return {
        s: {e["filename"].decode(): names[e["label"]] for e in encoded_examples(builder, s)}
        for s in builder.info.splits
    }


@pytest.fixture
def manual(tmp_path):
    return Path(shutil.copytree(DUMMY, tmp_path / "manual dir"))


@pytest.fixture
def unlabelled(manual):
    shutil.rmtree(manual / "labels")
    return manual


def _listed(manual, split):
    return dict(
        reversed(line.split(",")) for line in (manual / "labels" / f"{split}.csv").read_text().splitlines() if line
    )


def test_build_keeps_bytes_ids_names_and_splits(manual, tmp_path):
    builder = build(Builder, manual, tmp_path / "data")
    assert builder.info.features["label"].names == ["015_c.c", "015_c"]
    for split in ("train", "test"):
        examples = encoded_examples(builder, split)
        assert {e["filename"].decode(): str(e["label"]) for e in examples} == _listed(manual, split)
        for example in examples:
            assert example["image"] == (manual / "moeimouto-faces" / example["filename"].decode()).read_bytes()


def test_label_files_in_the_manual_folder_without_names_and_with_swapped_columns(manual, tmp_path):
    for split in ("train", "test"):
        lines = (f"{path},{label}\r\n" for path, label in _listed(manual, split).items())
        (manual / f"{split}.csv").write_text("\ufeff" + "".join(lines).replace("/", "\\"))
    shutil.rmtree(manual / "labels")
    builder = build(Builder, manual, tmp_path / "data")
    assert builder.info.features["label"].names == ["015_c.c", "015_c"]
    assert {split: len(found) for split, found in _labels(builder).items()} == MoeimoutoTest.SPLITS


def test_without_label_files_classes_split_by_file_name_with_a_warning(unlabelled, tmp_path, caplog):
    builder = build(Builder, unlabelled, tmp_path / "data")
    assert builder.info.features["label"].names == ["015_c", "015_c.c"]
    assert {split: sorted(found) for split, found in _labels(builder).items()} == {
        "train": [
            *(f"015_c.c/face_{name}.png" for name in ("11_6_1", "12_2_2", "13_8_5", "14_3_3")),
            *(f"015_c/face_{name}.png" for name in ("10_2_3", "1_7_9", "2_5_5", "3_1_8")),
        ],
        "test": ["015_c.c/face_5_5_5.png", "015_c.c/face_6_1_2.png", "015_c/face_9_4_4.png"],
    }
    assert all(path.startswith(f"{name}/") for found in _labels(builder).values() for path, name in found.items())
    assert "each class is split 0.8 / 0.2 in order of its file names" in caplog.text


def test_images_other_than_rgb_are_dropped_before_splitting_and_logged(unlabelled, tmp_path, caplog):
    for name in ("10_2_3", "9_4_4"):
        path = unlabelled / "moeimouto-faces" / "015_c" / f"face_{name}.png"
        Image.open(path).convert("P").save(path)
    found = _labels(build(Builder, unlabelled, tmp_path / "data"))
    # int(0.8 * 3) of the three that are left.
    assert sorted(p for p in found["train"] if "015_c/" in p) == ["015_c/face_1_7_9.png", "015_c/face_2_5_5.png"]
    (line,) = [record.getMessage() for record in caplog.records if "not RGB" in record.getMessage()]
    assert "3 images that are not RGB" in line and f"{GREY} (not RGB but L)" in line and line.count("but P") == 2


def test_label_line_of_a_grey_image_is_dropped(manual, tmp_path):
    with (manual / "labels" / "test.csv").open("a") as file:
        file.write(f"0,{GREY}\n")
    assert build(Builder, manual, tmp_path / "data").info.splits.total_num_examples == 11


def test_unlisted_images_are_left_out_and_counted(manual, tmp_path, caplog):
    tree = manual / "moeimouto-faces"
    shutil.copy(tree / "015_c" / "face_9_4_4.png", tree / "015_c" / "face_99_4_4.png")
    (tree / "015_c" / "face_98_4_4.png").write_text("no image")
    assert build(Builder, manual, tmp_path / "data").info.splits.total_num_examples == 11
    assert "2 images in no label file, such as 015_c/face_98_4_4.png" in caplog.text
    assert "1 images that are not RGB" in caplog.text


def test_other_files_and_folders_are_ignored(unlabelled, tmp_path):
    tree = unlabelled / "moeimouto-faces"
    for name in ("015_c/face.jpg", "015_c/._face_1_7_9.png", "readme.png", "miku/face.png", ".cache/face.png"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text("no image")
    (tree / "015_c" / "face_1_7_9.png").rename(tree / "015_c" / "face_1_7_9.PNG")
    assert build(Builder, unlabelled, tmp_path / "data").info.splits.total_num_examples == 11


def _damage(manual):
    tree = manual / "moeimouto-faces"
    (tree / "015_c" / "face_1_7_9.png").unlink()
    cut = tree / "015_c" / "face_2_5_5.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    Image.open(tree / "015_c.c" / "face_6_1_2.png").save(tree / "015_c.c" / "face_6_1_2.png", "JPEG")


def test_missing_broken_and_jpeg_images_are_counted_in_one_error(manual, tmp_path):
    _damage(manual)
    words = ("1_7_9.png (missing)", "2_5_5.png (broken: ", "6_1_2.png (not PNG)", "skip_broken")
    assert_build_is_refused(
        Builder, manual, tmp_path / "data", r"^3 of 11 images are missing, broken, or not PNG: ", words
    )


def test_skip_broken_leaves_out_broken_images(manual, tmp_path):
    _damage(manual)
    with pytest.raises(ValueError, match="without the images left out: no image for split test"):
        (manual / "labels" / "test.csv").write_text("1,015_c/face_2_5_5.png\n")
        build(Builder, manual, tmp_path / "data", SKIP)
    shutil.rmtree(manual / "labels")
    # Training gets int(0.8 * 3) of the 3 complete images of one class and int(0.8 * 5) of the other.
    found = _labels(build(Builder, manual, tmp_path / "data", SKIP))
    assert {split: len(paths) for split, paths in found.items()} == {"train": 6, "test": 2}


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("train.csv", "0,015_c.c/color.csv", "expected class_id,NNN_name/FILE.png"),
        ("train.csv", "0,0015/face_1.png", "expected class_id,NNN_name/FILE.png"),
        ("test.csv", "0,015_c/face_1.png", "class id 0 is '015_c.c'; expected an image in that folder"),
        ("test.csv", "0,015_c.c/face_6_1_2.png", r"twice, before in .*train\.csv line 1"),
    ],
)
def test_bad_label_lines_fail_before_images_are_read(manual, tmp_path, monkeypatch, file, line, words):
    monkeypatch.setattr(image_files, "broken_images", lambda *_: pytest.fail("the images were checked"))
    path = manual / "labels" / file
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=words) as error:
        build(Builder, manual, tmp_path / "data")
    message = str(error.value)
    assert f"{file} line {len(path.read_text().splitlines())}: {line!r}: " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("files", "old", "new", "words"),
    [
        (["train"], "1,015_c/face_3", "0,015_c/face_3", "class id 0 is '015_c.c'; expected an image in that folder"),
        (["train"], "1,015_c/face_3", "2,015_c/face_3", "the class name '015_c' stands for two classes"),
        (["train", "test"], "0,", "5,", "class ids must be 0 to 1 without a gap; 0 is missing"),
    ],
)
def test_without_names_file_ids_must_match_folders(manual, tmp_path, files, old, new, words):
    (manual / "labels" / "classid_classname.csv").unlink()
    for file in files:
        path = manual / "labels" / f"{file}.csv"
        path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=words):
        build(Builder, manual, tmp_path / "data")


def test_missing_files_are_named_with_their_source(manual, tmp_path):
    (manual / "labels" / "test.csv").unlink()
    with pytest.raises(InputError, match=r"labels lacks test\.csv; expected: .*arkel23/animesion/tree/b9ef212"):
        build(Builder, manual, tmp_path / "data")
    shutil.rmtree(manual / "labels")
    for path in (manual / "moeimouto-faces").iterdir():
        shutil.rmtree(path)
    with pytest.raises(ValueError, match=r"moeimouto-faces holds no NNN_name/FILE\.png; expected: .*kaggle"):
        build(Builder, manual, tmp_path / "data")
    (manual / "moeimouto-faces").rename(manual / "faces")
    with pytest.raises(InputError, match=r"lacks moeimouto-faces/ and moeimouto-faces\.zip; expected: .*kaggle"):
        build(Builder, manual, tmp_path / "data")


def test_links_may_lead_to_the_faces_but_not_out_of_them(manual, tmp_path):
    outside = tmp_path / "elsewhere"
    (manual / "moeimouto-faces").rename(outside)
    (manual / "moeimouto-faces").symlink_to(outside)
    assert build(Builder, manual, tmp_path / "data").info.splits.total_num_examples == 11
    (outside / "015_c").rename(tmp_path / "015_c")
    (outside / "015_c").symlink_to(tmp_path / "015_c")
    with pytest.raises(ValueError, match=r"015_c/face_.*\.png is a link out of .*moeimouto-faces, to "):
        build(Builder, manual, tmp_path / "again")


def test_zip_and_folder_give_the_same_encoded_examples(manual, tmp_path, caplog):
    builder = build(Builder, manual, tmp_path / "data")
    shutil.make_archive(str(manual / "moeimouto-faces"), "zip", manual, "moeimouto-faces")
    build(Builder, manual, tmp_path / "both")
    assert "moeimouto-faces, not moeimouto-faces.zip beside it" in caplog.text
    shutil.rmtree(manual / "moeimouto-faces")
    caplog.clear()
    zipped = build(Builder, manual, tmp_path / "zipped")
    assert f"moeimouto-faces.zip/{GREY} (not RGB but L)" in caplog.text and "beside it" not in caplog.text
    for split in ("train", "test"):
        assert encoded_examples(zipped, split) == encoded_examples(builder, split)


def test_missing_and_damaged_zip_members_are_faults(manual, tmp_path):
    _damage(manual)
    with zipfile.ZipFile(manual / "moeimouto-faces.zip", "w") as archive:
        for path in sorted((manual / "moeimouto-faces").rglob("*.png")):
            archive.write(path, path.relative_to(manual))
    shutil.rmtree(manual / "moeimouto-faces")
    with pytest.raises(ValueError, match=r"^3 of 11 images are missing, broken, or not PNG: ") as error:
        build(Builder, manual, tmp_path / "data")
    for words in ("zip/015_c/face_1_7_9.png (missing)", "2_5_5.png (broken: ", "6_1_2.png (not PNG)"):
        assert words in str(error.value)


@pytest.mark.shared
def test_real_faces_give_the_counts_of_their_label_files(tmp_path, caplog):
    builder = build(Builder, SHARED / "realfaces" / "moeimouto", tmp_path)
    assert builder.info.features["label"].num_classes == 10
    assert builder.info.splits.total_num_examples == 368
    assert "2 images that are not RGB" in caplog.text


def _released_sizes() -> list[tuple[str, int, int]]:
    with SIZES.open() as file:
        return [(row["class_name"], int(row["train"]), int(row["test"])) for row in csv.DictReader(file)]


@pytest.mark.shared
def test_released_label_files_have_the_sizes_of_the_table():
    labels = read_labels(SHARED / "labels" / "moeimouto")
    counts = [Counter(class_id for class_id, _ in labels.rows[split]) for split in ("train", "test")]
    assert [(name, counts[0][i], counts[1][i]) for i, name in enumerate(labels.names)] == _released_sizes()


def _write_labels(labels: Path) -> None:
    """Writes label files of the released sizes; the last images by name are for training."""
    labels.mkdir()
    rows = {"train": [], "test": []}
    for class_id, (name, train, test) in enumerate(_released_sizes()):
        paths = [f"{class_id},{name}/face_{image:03d}_{class_id}_5.png\n" for image in range(train + test)]
        rows["train"] += paths[test:]
        rows["test"] += paths[:test]
    for split, lines in rows.items():
        (labels / f"{split}.csv").write_text("".join(lines))
    names = (f"{class_id},{name}\n" for class_id, (name, *_) in enumerate(_released_sizes()))
    (labels / "classid_classname.csv").write_text("".join(names))


def _write_faces(manual: Path) -> None:
    """Writes a distinct image for every label line, and two that are not RGB, as on Kaggle."""
    paths = sorted(path for split in ("train", "test") for path in _listed(manual, split))
    for name in {path.partition("/")[0] for path in paths}:
        (manual / "moeimouto-faces" / name).mkdir(parents=True)
        (manual / "moeimouto-faces" / name / "color.csv").write_text("0,0,0\n")
    for number, path in enumerate(paths):
        color = number % 256, number // 256 % 256, 128
        Image.new("RGB", (8, 8), color).save(manual / "moeimouto-faces" / path, compress_level=1)
    for path, mode in ((paths[0], "L"), (paths[-1], "RGBA")):
        Image.new(mode, (8, 8)).save(manual / "moeimouto-faces" / path.replace("face_", "face_not_rgb_"))


@pytest.mark.slow
def test_full_size_gives_the_published_counts(tmp_path, caplog):
    """14,395 images: 11,452 / 2,943 of 173 classes with a mean of 83.2, a median of 80, a sample sd of 27.1."""
    manual = tmp_path / "manual"
    manual.mkdir()
    _write_labels(manual / "labels")
    _write_faces(manual)
    builder = build(Builder, manual, tmp_path / "data")
    found = _labels(builder)
    names = builder.info.features["label"].names
    assert (len(found["train"]), len(found["test"]), len(names)) == (11_452, 2_943, 173)
    assert names[:3] == ["190_kawashima_ami", "073_subaru_nakajima", "092_shindou_kei"]
    counts = Counter(name for paths in found.values() for name in paths.values())
    assert statistics.mean(counts.values()) == pytest.approx(83.2, abs=0.05)
    assert statistics.median(counts.values()) == 80
    assert statistics.stdev(counts.values()) == pytest.approx(27.1, abs=0.005)
    for split, paths in found.items():
        assert paths == {path: names[int(label)] for path, label in _listed(manual, split).items()}
    assert "2 images that are not RGB" in caplog.text

    # Without label files the training images differ, but not their number per class.
    shutil.rmtree(manual / "labels")
    by_name = _labels(build(Builder, manual, tmp_path / "by_name"))
    assert {split: Counter(paths.values()) for split, paths in by_name.items()} == {
        split: Counter(paths.values()) for split, paths in found.items()
    }
    assert set(by_name["test"]) != set(found["test"])
