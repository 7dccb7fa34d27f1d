import shutil
from collections import Counter
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from conftest import ROOT, SHARED
from PIL import Image

from tfds_builders.dafre import label_files
from tfds_builders.dafre.dafre_dataset_builder import Builder, DafreConfig
from tfds_builders.manual_data import find_image, relative_path

DUMMY = ROOT / "tfds_builders" / "dafre" / "dummy_data"


class ReleasedTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["released"]
    EXAMPLE_DIR = str(DUMMY)
    SPLITS = {"train": 3, "validation": 2, "test": 2}


class RawTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["min5"]
    EXAMPLE_DIR = str(DUMMY)
    SPLITS = {"train": 7, "validation": 1, "test": 4}


def _build(manual: Path, data_dir: Path, config: str | DafreConfig = "released"):
    builder = Builder(config=config, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    return builder


def _examples(builder, split):
    return list(builder.as_dataset(split, decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator())


@pytest.fixture
def manual(tmp_path):
    return Path(shutil.copytree(DUMMY, tmp_path / "manual dir"))


def test_bytes_names_and_labels_are_those_of_the_files(manual, tmp_path):
    builder = _build(manual, tmp_path / "data")
    assert builder.info.features["label"].names == ["akari", "yui, the younger"]
    for example in _examples(builder, "train"):
        assert example["image"] == (manual / "faces" / example["filename"].decode()).read_bytes()
    assert sorted(e["filename"].decode() for e in _examples(builder, "test")) == ["0007/1007.jpg", "0105/1105.jpg"]


def test_old_copies_have_swapped_columns_and_no_labels_folder(manual, tmp_path):
    for file in (manual / "labels").iterdir():
        lines = [line.partition(",") for line in file.read_text().splitlines()]
        swap = file.name != "classid_classname.csv"
        text = "\r\n".join(f"{b.replace('/', chr(92))},{a}" if swap else f"{a},{b}" for a, _, b in lines)
        (manual / file.name).write_text("\ufeff" + text + "\r\n\r\n")
    shutil.rmtree(manual / "labels")
    builder = _build(manual, tmp_path / "data")
    assert {s: builder.info.splits[s].num_examples for s in builder.info.splits} == ReleasedTest.SPLITS


def test_raw_keeps_boxes_and_confidence_and_drops_what_the_detector_doubts(manual, tmp_path):
    builder = _build(manual, tmp_path / "data", "min5")
    assert builder.info.features["label"].names == ["akari", "yui"]
    examples = [e for split in RawTest.SPLITS for e in _examples(builder, split)]
    assert all(e["confidence"] >= 0.85 for e in examples)
    assert all(0 <= e["bbox"][0] < e["bbox"][2] <= 1 for e in examples)
    first = next(e for e in examples if e["filename"] == b"0000/2000.jpg")
    assert first["bbox"].tolist() == pytest.approx([0.2, 0.1, 0.8, 0.6]) and first["confidence"] == pytest.approx(0.95)


def test_missing_files_say_what_is_expected_and_where_to_get_it(manual, tmp_path):
    (manual / "labels" / "val.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels/val\.csv.*labels\.tar\.gz.*arkel23"):
        _build(manual, tmp_path / "data")
    (manual / "faces.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"faces\.tsv.*grapeot"):
        _build(manual, tmp_path / "data", "min5")


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("train.csv", "0;0007/1.jpg", "expected class_id"),
        ("train.csv", "zero,one", "expected class_id"),
        ("test.csv", "7,0007/1.jpg", "class id 7"),
        ("test.csv", "0,../../etc/passwd.jpg", "leaves the folder"),
        ("val.csv", "0,/etc/passwd.jpg", "leaves the folder"),
        ("val.csv", r"0,C:\faces\1.jpg", "leaves the folder"),
        ("val.csv", "0,0007/1007.jpg", "listed twice"),
        ("classid_classname.csv", "1,akari", "new class id"),
    ],
)
def test_bad_label_lines_name_file_line_and_content(manual, tmp_path, file, line, words):
    path = manual / "labels" / file
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=words) as error:
        _build(manual, tmp_path / "data")
    message = str(error.value)
    if "listed twice" not in words:
        assert f"{file} line {len(path.read_text().splitlines())}" in message and repr(line) in message
    else:
        assert "0007/1007.jpg" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0446/1.jpg\t7", "expected path"),
        ("0446/1.jpg\tseven\t0,0,1,1 0.9", "expected path"),
        ("0446/1.jpg\t7\t0,0,1 0.9", "five numbers"),
        ("0446/1.jpg\t7\t0,0,nan,1 0.9", "five numbers"),
        ("0446/1.jpg\t7\t0.5,0,0.5,1 0.9", "box is empty"),
        ("../1.jpg\t7\t0,0,1,1 0.9", "leaves the folder"),
    ],
)
def test_bad_raw_lines(line, words):
    with pytest.raises(ValueError, match=words):
        label_files.parse_raw_line(line)


def test_numbers_are_separated_by_commas_or_blanks_and_slashes_lean_either_way():
    forms = ["0.1, 0.2, 0.6, 0.8 0.95", "0.1 0.2 0.6 0.8 0.95", "0.1,0.2,0.6,0.8,0.95"]
    rows = {label_files.parse_raw_line(f"0446{slash}332446.jpg\t12\t{form}") for form in forms for slash in "/\\"}
    assert rows == {label_files.Row("0446/332446.jpg", 12, label_files.Box(0.1, 0.2, 0.6, 0.8, 0.95))}


def test_folders_have_three_or_four_digits(tmp_path):
    for folder in ("446", "0007"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").touch()
    assert find_image(tmp_path, "0446/1.jpg") == tmp_path / "446" / "1.jpg"
    assert find_image(tmp_path, "007/1.jpg") == tmp_path / "0007" / "1.jpg"
    with pytest.raises(ValueError, match="leaves the folder"):
        relative_path("a//b.jpg")


def _damage(manual):
    (manual / "faces" / "0000" / "1000.jpg").unlink()
    cut = manual / "faces" / "0101" / "1101.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    Image.new("L", (16, 16)).save(manual / "faces" / "0105" / "1105.jpg")


def test_missing_broken_and_grey_images_are_all_counted(manual, tmp_path):
    _damage(manual)
    with pytest.raises(ValueError, match=r"3 of 7 images") as error:
        _build(manual, tmp_path / "data")
    for words in ("1000.jpg (missing)", "1101.jpg (broken", "1105.jpg (not RGB but L)", "skip_broken"):
        assert words in str(error.value)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


def test_skip_broken_leaves_them_out(manual, tmp_path):
    _damage(manual)
    builder = _build(manual, tmp_path / "data", DafreConfig(name="released_skip", skip_broken=True))
    assert sum(split.num_examples for split in builder.info.splits.values()) == 4


@pytest.mark.shared
@pytest.mark.parametrize(("config", "classes"), [("min20", 18), ("min10", 19), ("min5", 20)])
def test_real_faces(tmp_path, config, classes):
    builder = _build(SHARED / "realfaces" / "daf", tmp_path, config)
    assert builder.info.features["label"].num_classes == classes
    lines = (SHARED / "realfaces" / "daf" / "faces.tsv").read_text().splitlines()
    counts = Counter(line.split("\t")[1] for line in lines if float(line.split()[-1]) >= 0.85)
    kept = sum(count for count in counts.values() if count >= int(config.removeprefix("min")))
    assert sum(split.num_examples for split in builder.info.splits.values()) == kept
    if config == "min20":
        assert builder.info.splits["test"].num_examples == 335
