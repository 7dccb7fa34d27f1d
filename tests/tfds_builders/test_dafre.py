import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.errors import InputError
from tests.conftest import ROOT, SHARED
from tests.tfds_builders.builds import assert_build_is_refused, build, encoded_examples
from tfds_builders.common import image_files
from tfds_builders.dafre.dafre_dataset_builder import Builder, DafreConfig

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


@pytest.fixture
def manual(tmp_path):
    return Path(shutil.copytree(DUMMY, tmp_path / "manual dir"))


def test_released_keeps_bytes_names_and_labels(manual, tmp_path):
    builder = build(Builder, manual, tmp_path / "data")
    assert builder.info.features["label"].names == ["akari", "yui, the younger"]
    for example in encoded_examples(builder, "train"):
        assert example["image"] == (manual / "faces" / example["filename"].decode()).read_bytes()
    assert sorted(e["filename"].decode() for e in encoded_examples(builder, "test")) == [
        "0007/1007.jpg",
        "0105/1105.jpg",
    ]


def test_released_reads_swapped_and_quoted_columns_without_labels_folder(manual, tmp_path):
    for file in (manual / "labels").iterdir():
        lines = [line.partition(",")[::2] for line in file.read_text().splitlines()]
        swap = file.name != "classid_classname.csv"
        rows = [(b.replace("/", "\\"), a) if swap else (a, b) for a, b in lines]
        with (manual / file.name).open("w", encoding="utf-8", newline="") as copy:
            copy.write("\ufeff")
            csv.writer(copy, quoting=csv.QUOTE_ALL).writerows([*rows, ()])
    shutil.rmtree(manual / "labels")
    builder = build(Builder, manual, tmp_path / "data")
    assert builder.info.features["label"].names == ["akari", "yui, the younger"]
    assert {s: builder.info.splits[s].num_examples for s in builder.info.splits} == ReleasedTest.SPLITS


def test_raw_keeps_boxes_and_drops_low_confidence(manual, tmp_path):
    builder = build(Builder, manual, tmp_path / "data", "min5")
    assert builder.info.features["label"].names == ["akari", "yui"]
    examples = [e for split in RawTest.SPLITS for e in encoded_examples(builder, split)]
    assert all(e["confidence"] >= 0.85 for e in examples)
    assert all(0 <= e["bbox"][0] < e["bbox"][2] <= 1 for e in examples)
    first = next(e for e in examples if e["filename"] == b"0000/2000.jpg")
    assert first["bbox"].tolist() == pytest.approx([0.2, 0.1, 0.8, 0.6]) and first["confidence"] == pytest.approx(0.95)


def test_missing_files_are_named_with_their_source(manual, tmp_path):
    (manual / "labels" / "val.csv").unlink()
    with pytest.raises(InputError, match=r"labels/val\.csv.*labels\.tar\.gz.*arkel23"):
        build(Builder, manual, tmp_path / "data")
    (manual / "faces.tsv").unlink()
    with pytest.raises(InputError, match=r"faces\.tsv.*grapeot"):
        build(Builder, manual, tmp_path / "data", "min5")


@pytest.mark.parametrize(
    ("file", "line", "words"),
    [
        ("train.csv", "0;0007/1.jpg", "expected class_id"),
        ("test.csv", "7,0007/1.jpg", "class id 7"),
        ("test.csv", "0,../../etc/passwd.jpg", "leaves the folder"),
        ("test.csv", "1,001/1001.jpg", r"twice, before in .*train\.csv line 2"),
        ("classid_classname.csv", "1,akari", "new class id"),
    ],
)
def test_bad_label_lines_name_file_line_and_content(manual, tmp_path, file, line, words):
    path = manual / "labels" / file
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=words) as error:
        build(Builder, manual, tmp_path / "data")
    message = str(error.value)
    assert f"{file} line {len(path.read_text().splitlines())}: {line!r}: " in message
    assert "\n" not in message


def test_class_may_lack_images_in_a_split(manual, tmp_path):
    names = manual / "labels" / "classid_classname.csv"
    names.write_text(names.read_text() + "2,only to be named\n3,only in test\n")
    test = manual / "labels" / "test.csv"
    test.write_text(test.read_text().replace("1,0105", "3,0105"))
    builder = build(Builder, manual, tmp_path / "data")
    assert builder.info.features["label"].num_classes == 4
    assert sorted(e["label"] for e in encoded_examples(builder, "test")) == [0, 3]


@pytest.fixture
def no_image_check(monkeypatch):
    """Fails a test that gets as far as the images."""
    monkeypatch.setattr(image_files, "broken_images", lambda paths: pytest.fail("the images were checked"))


def test_empty_released_split_fails_before_images_are_read(manual, tmp_path, no_image_check):
    (manual / "labels" / "val.csv").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.csv lists no image; every split needs"):
        build(Builder, manual, tmp_path / "data")


@pytest.mark.parametrize(
    ("threshold", "rows", "words"),
    [
        (50, 19, "no class has 50 images or more, the largest has 7; lower threshold"),
        (5, 6, "no image for split validation"),
        (5, 0, "no class has 5 images or more, the largest has 0"),
    ],
)
def test_empty_raw_split_fails_before_images_are_read(manual, tmp_path, threshold, rows, words, no_image_check):
    path = manual / "faces.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:rows]))
    with pytest.raises(ValueError, match=rf"faces\.tsv: {words}"):
        build(Builder, manual, tmp_path / "data", DafreConfig(name="few", threshold=threshold))


def test_raw_tag_without_name_fails_before_images_are_read(manual, tmp_path, no_image_check):
    (manual / "tagIds.tsv").write_text("yui\t30\n")
    with pytest.raises(ValueError, match=r"tagIds\.tsv has no name for tag id 12"):
        build(Builder, manual, tmp_path / "data", "min5")


def test_links_may_lead_to_the_manual_folder_but_not_out_of_it(manual, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (manual / "faces").rename(tmp_path / "elsewhere" / "faces")
    for name, target in (("labels", manual / "labels"), ("faces", tmp_path / "elsewhere" / "faces")):
        (linked / name).symlink_to(target)
    (tmp_path / "manual").symlink_to(linked)
    assert build(Builder, tmp_path / "manual", tmp_path / "data").info.splits.total_num_examples == 7

    image = tmp_path / "elsewhere" / "faces" / "0101" / "1101.jpg"
    image.rename(tmp_path / "elsewhere" / "1101.jpg")
    image.symlink_to("../../1101.jpg")
    with pytest.raises(ValueError, match=r"0101/1101\.jpg is a link out of .*faces, to .*elsewhere/1101\.jpg"):
        build(Builder, tmp_path / "manual", tmp_path / "again")


@pytest.mark.parametrize(
    ("field", "value"),
    [("threshold", value) for value in ("20", 0, True)]
    + [("skip_broken", value) for value in (1, None)]
    + [("name", value) for value in (5, "a/b", "..")],
)
def test_config_refuses_fields_of_other_types(field, value):
    with pytest.raises(ValueError, match=rf"^{field} is {value!r}; allowed: .*$"):
        DafreConfig(**{"name": "custom", field: value})


def _damage(manual):
    (manual / "faces" / "0000" / "1000.jpg").unlink()
    cut = manual / "faces" / "0101" / "1101.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    Image.new("L", (16, 16)).save(manual / "faces" / "0105" / "1105.jpg")


def test_missing_broken_and_grey_images_are_counted_in_one_error(manual, tmp_path):
    _damage(manual)
    words = ("1000.jpg (missing)", "1101.jpg (broken", "1105.jpg (not RGB but L)", "skip_broken")
    assert_build_is_refused(Builder, manual, tmp_path / "data", r"3 of 7 images", words)


def test_skip_broken_leaves_out_broken_images(manual, tmp_path):
    _damage(manual)
    builder = build(Builder, manual, tmp_path / "data", DafreConfig(name="released_skip", skip_broken=True))
    assert builder.info.splits.total_num_examples == 4


def test_skip_broken_refuses_to_empty_a_split(manual, tmp_path):
    for image in ("0005/1005.jpg", "0103/1103.jpg"):
        (manual / "faces" / image).unlink()
    with pytest.raises(ValueError, match="labels without broken images: no image for split validation"):
        build(Builder, manual, tmp_path / "data", DafreConfig(name="released_skip", skip_broken=True))


def test_raw_threshold_counts_without_broken_images(manual, tmp_path):
    (manual / "data" / "100" / "2100.jpg").write_bytes(b"")
    builder = build(Builder, manual, tmp_path / "data", DafreConfig(name="skip5", threshold=5, skip_broken=True))
    assert builder.info.features["label"].names == ["akari"]
    assert builder.info.splits.total_num_examples == 7


def test_raw_does_not_read_images_of_small_classes(manual, tmp_path):
    with (manual / "faces.tsv").open("a") as file:
        file.write("0001\\9001.jpg\t99\t0.1, 0.1, 0.9, 0.9 0.99\n")  # no such file
    assert build(Builder, manual, tmp_path / "data", "min5").info.splits.total_num_examples == 12
    with pytest.raises(ValueError, match=r"9001\.jpg \(missing\)"):
        build(Builder, manual, tmp_path / "data", DafreConfig(name="min1", threshold=1))


@pytest.mark.shared
@pytest.mark.parametrize(("config", "classes"), [("min20", 18), ("min10", 19), ("min5", 20)])
def test_real_faces_give_the_counts_of_their_label_file(tmp_path, config, classes):
    builder = build(Builder, SHARED / "realfaces" / "daf", tmp_path, config)
    assert builder.info.features["label"].num_classes == classes
    lines = (SHARED / "realfaces" / "daf" / "faces.tsv").read_text().splitlines()
    counts = Counter(line.split("\t")[1] for line in lines if float(line.split()[-1]) >= 0.85)
    kept = sum(count for count in counts.values() if count >= int(config.removeprefix("min")))
    assert sum(split.num_examples for split in builder.info.splits.values()) == kept
    if config == "min20":
        assert builder.info.splits["test"].num_examples == 335
