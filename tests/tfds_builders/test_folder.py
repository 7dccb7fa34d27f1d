"""From a folder of pictures to a model: what is found, read, left out and refused, and what training sees of it."""

import copy
import json
import logging
import os
import shutil
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.cli.flags import load_config
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.decode import decode_and_resize
from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.main import main
from animesion_jax.preprocessing import resize
from configs import folder as folder_config
from tests.conftest import ROOT
from tfds_builders.folder import storage
from tfds_builders.folder.folder_dataset_builder import Builder, FolderConfig
from tfds_builders.folder.layout import find_pictures
from tfds_builders.folder.prepare import prepare
from tfds_builders.folder.survey import survey

# Three characters; the rule of DAF:re gives 14 / 1 / 5, 7 / 0 / 3 and 2 / 1 / 1 of them, in order of the names.
SIZES = {"ai": 20, "mi ku": 10, "初音": 4}
TEST_NAMES = {
    *(f"ai/{i:02d}.png" for i in range(15, 20)), *(f"mi ku/{i:02d}.png" for i in range(7, 10)), "初音/03.png",
}  # fmt: skip


def _pixels(seed, shape=(12, 14, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _draw(path, seed, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels(seed)).save(path, **options)
    return path


def _draw_folder(root, sizes=None, start=0):
    for number, (name, count) in enumerate((SIZES if sizes is None else sizes).items()):
        for i in range(count):
            _draw(root / name / f"{i:02d}.png", (start, number, i))
    return root


def _names(found, split):
    return {picture.name for picture, _ in found.chosen.get(split, [])}


def _refused(folder, *words, **options):
    with pytest.raises(InputError) as caught:
        survey(find_pictures(folder), **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message


def _config(folder, data_dir):
    config = folder_config.get_config("shallownet")
    config.folder, config.data_dir = str(folder), str(data_dir)
    config.image_size, config.crop_margin, config.epochs, config.batch_size = 16, 4, 3, 8
    config.eval_batch_size = 8
    return config


class FolderTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Builder
    SPLITS = {"train": 23, "validation": 2, "test": 9}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._drawn = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = str(_draw_folder(Path(cls._drawn.name)))

    @classmethod
    def tearDownClass(cls):
        cls._drawn.cleanup()
        super().tearDownClass()


def test_one_level_is_split_by_the_rule_in_order_of_the_names(tmp_path):
    found = survey(find_pictures(_draw_folder(tmp_path)))
    assert found.characters == ["ai", "mi ku", "初音"]
    assert {split: len(each) for split, each in found.chosen.items()} == {"train": 23, "validation": 2, "test": 9}
    assert _names(found, "test") == TEST_NAMES
    assert _names(found, "validation") == {"ai/14.png", "初音/02.png"}
    assert found.report["by_class"]["mi ku"] == {"train": 7, "validation": 0, "test": 3}
    assert found.report["splits"] == {"train": 23, "validation": 2, "test": 9}
    assert "3 characters" not in " ".join(found.remarks)
    assert any("2 characters have fewer than 20 pictures" in each for each in found.remarks)


def test_folders_of_splits_are_taken_as_they_are_with_one_list_of_ids(tmp_path):
    _draw_folder(tmp_path / "Train", {"b": 3, "c": 1, "a": 2})
    _draw_folder(tmp_path / "val", {"c": 2}, start=1)
    found = survey(find_pictures(tmp_path))
    assert found.characters == ["a", "b", "c"]
    assert found.report["splits"] == {"train": 6, "validation": 2, "test": 0}
    assert list(found.chosen) == ["train", "validation"] and _names(found, "validation") == {
        "val/c/00.png",
        "val/c/01.png",
    }


def test_a_character_to_test_but_not_to_train_is_refused(tmp_path):
    _draw_folder(tmp_path / "train", {"a": 2, "b": 2})
    _draw_folder(tmp_path / "test", {"a": 1, "unseen": 3}, start=1)
    _refused(tmp_path, "1 characters have no picture in train: 'unseen' (3)", "remove")


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ([], ["holds no folder", "a folder of pictures per character"]),
        (["train/a", "test/a", "extra/a"], ["'extra'", "train/, validation/ and test/"]),
        (["train/a", "val/a", "validation/a"], ["two are the same split"]),
        (["train/a", "dev/a"], ["holds dev, train, which must be splits", "a folder of pictures per character"]),
        (["val/a", "test/a"], ["holds test, val, which must be splits", "train/, validation/ and test/"]),
        (["Training/a", "miku"], ["holds Training, which must be splits"]),
    ],
)
def test_what_is_no_layout_is_named(tmp_path, folders, words):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        find_pictures(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value
    with pytest.raises(InputError, match="is no folder"):
        find_pictures(tmp_path / "absent")


def test_characters_may_be_named_like_splits(tmp_path):
    _draw_folder(tmp_path, {"train": 2, "thomas": 2})
    assert survey(find_pictures(tmp_path)).characters == ["thomas", "train"]
    _draw_folder(tmp_path / "more", {"test": 2, "val": 2})
    assert not find_pictures(tmp_path / "more").has_splits


def test_names_that_look_the_same_are_not_two_characters(tmp_path):
    for form in ("NFC", "NFD"):
        _draw_folder(tmp_path, {unicodedata.normalize(form, "ガール"): 2})
    _refused(tmp_path, "same name in other Unicode forms: 'ガール': put them together")


def test_what_is_no_picture_is_skipped_and_counted(tmp_path):
    _draw_folder(tmp_path, {"a": 2, "b": 2})
    _draw(tmp_path / "a" / "deep" / "er" / "x.PNG", 7)
    _draw(tmp_path / "loose.png", 8)
    for name in ("a/._00.png", ".cache/x.png", "a/.thumbs/x.png", "a/00.png.explained.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    for name in ("a/Thumbs.db", "a/desktop.ini", "b/color.csv", "list.csv"):
        (tmp_path / name).write_text("no image")
    found = survey(find_pictures(tmp_path))
    assert found.report["images"] == 5 and "a/deep/er/x.PNG" in _names(found, "test")
    assert found.report["left_out"]["other_files"] == {".csv": 2, ".db": 1, ".ini": 1}
    assert found.report["left_out"]["in_no_characters_folder"] == ["loose.png"]
    assert "left out: files that are no pictures by their names (4): .csv (2); .db (1); .ini (1)" in found.remarks


def test_all_that_is_amiss_is_told_at_once(tmp_path):
    _draw_folder(tmp_path, {"a": 20, "one": 1, "new\nline": 2})
    (tmp_path / "none").mkdir()
    for i in range(12):
        (tmp_path / "a" / f"broken{i:02d}.jpg").write_text("no image")
    _refused(
        tmp_path,
        "12 of 35 pictures cannot be read: a/broken00.jpg (not a readable image",
        "a/broken09.jpg",
        "; ...: mend",
        "--config.skip_broken=True",
        "2 characters have fewer than 2 pictures, one to train on and one to test: 'none' (0); 'one' (1): add",
        "--config.min_images=2",
        r"1 folders have names that are no text of one line: 'new\nline': rename",
    )
    with pytest.raises(InputError) as caught:
        survey(find_pictures(tmp_path))
    assert "broken10" not in str(caught.value)


def test_the_settings_that_an_error_names_leave_out_and_report(tmp_path):
    _draw_folder(tmp_path, {"a": 3, "b": 2, "one": 1})
    (tmp_path / "a" / "cut.png").write_bytes((tmp_path / "a" / "00.png").read_bytes()[:-40])
    found = survey(find_pictures(tmp_path), min_images=2, skip_broken=True)
    assert found.characters == ["a", "b"] and found.report["images"] == 5
    assert found.report["splits"] == {"train": 3, "validation": 0, "test": 2}
    assert list(found.report["left_out"]["unreadable"]) == ["a/cut.png"]
    assert found.report["left_out"]["small_characters"] == {"one": 1}
    assert "left out: characters with fewer than 2 pictures (1): 'one' (1)" in found.remarks
    _refused(tmp_path, "1 characters with 3 pictures or more; needed: two", min_images=3, skip_broken=True)


def test_copies_are_left_out_before_the_rule_counts(tmp_path):
    """Of the same bytes, and of the same pixels in another file."""
    _draw_folder(tmp_path, {"a": 10, "b": 2})
    shutil.copy(tmp_path / "a" / "00.png", tmp_path / "a" / "zz.png")
    Image.open(tmp_path / "a" / "01.png").save(tmp_path / "a" / "zz.bmp")
    found = survey(find_pictures(tmp_path))
    assert found.report["left_out"]["copies"] == {"a/zz.png": "a/00.png", "a/zz.bmp": "a/01.png"}
    assert found.report["by_class"]["a"] == {"train": 7, "validation": 0, "test": 3}
    assert any("pictures with the pixels of another, which is kept (2)" in each for each in found.remarks)


def test_a_copy_in_two_splits_stays_where_it_is_tested_on(tmp_path):
    for split in ("train", "validation", "test"):
        _draw_folder(tmp_path / split, {"a": 3, "b": 3}, start=len(split))
    test, validation, train = (tmp_path / split / "a" for split in ("test", "validation", "train"))
    shutil.copy(test / "00.png", train / "zz.png")
    shutil.copy(test / "00.png", validation / "zz.png")
    shutil.copy(train / "01.png", validation / "yy.png")
    found = survey(find_pictures(tmp_path))
    assert found.report["left_out"]["copies"] == {
        "train/a/zz.png": "test/a/00.png",
        "validation/a/zz.png": "test/a/00.png",
        "train/a/01.png": "validation/a/yy.png",
    }
    assert found.report["by_class"]["a"] == {"train": 2, "validation": 4, "test": 3}


def test_a_picture_under_two_characters_is_left_out_of_both(tmp_path):
    _draw_folder(tmp_path, {"a": 3, "b": 3})
    shutil.copy(tmp_path / "a" / "01.png", tmp_path / "b" / "other.png")
    found = survey(find_pictures(tmp_path))
    assert found.report["left_out"]["under_several_characters"] == [["a/01.png", "b/other.png"]]
    assert found.report["images"] == 5
    assert any("a/01.png = b/other.png" in each for each in found.remarks)


def _save_every_kind(root):
    """Draws a picture of every format and mode that is read, each under two characters with other pixels."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        rgb, alpha = Image.fromarray(_pixels(ord(name), (40, 30, 3))), _pixels(ord(name), (40, 30, 4))
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


def _records(dataset):
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        record["filename"].decode(): record | {"split": split}
        for split in dataset.builder.info.splits
        for record in dataset.builder.as_dataset(split, decoders=decoders).as_numpy_iterator()
    }


def test_training_sees_the_pixels_that_predict_sees_of_every_kind_of_file(tmp_path):
    folder = _save_every_kind(tmp_path / "all kinds")
    config = _config(folder, tmp_path / "data")
    prepare(config)
    records = _records(load_dataset(config.dataset, config.data_dir))
    assert len(records) == 34 and {record["label"] for record in records.values()} == {0, 1}
    for name, record in records.items():
        image = read_image(folder / name)
        for size in (24, 64):
            np.testing.assert_array_equal(decode_and_resize(record["image"], size), resize(image, size), err_msg=name)
    for name in ("rgb.jpg", "444.jpg", "rgb.png"):
        assert records[f"a/{name}"]["image"] == (folder / "a" / name).read_bytes()
    for name in ("grey16.tiff", "alpha.png", "lossy.webp"):
        assert records[f"a/{name}"]["image"].startswith(b"\x89PNG")


def test_a_large_picture_of_another_format_becomes_no_large_record(tmp_path):
    """Of a photograph's 1.6 megapixels only rounding differs at a model's size."""
    ramp = np.linspace(0, 255, 1500, dtype=np.float32)
    noise = np.random.default_rng(3).normal(0, 6, (1100, 1500, 3))
    pixels = np.clip(ramp[None, :, None] * 0.8 + noise + [0, 20, 40], 0, 255).astype(np.uint8)
    path = tmp_path / "large.webp"
    Image.fromarray(pixels).save(path, quality=90)
    stored, image = storage.to_store(path, False), read_image(path)
    assert stored.startswith(b"\xff\xd8\xff") and not storage.can_stay(path, image)
    seen, predicted = np.asarray(decode_and_resize(stored, 128), int), resize(image, 128).astype(int)
    assert np.abs(seen - predicted).max() <= 1


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A (folder, data_dir, prepared config) of the three characters."""
    root = tmp_path_factory.mktemp("built")
    config = _config(_draw_folder(root / "my pictures!"), root / "data")
    prepare(config)
    return root / "my pictures!", root / "data", config


def test_ids_files_and_splits_are_those_of_the_folder(built):
    folder, data_dir, config = built
    dataset = load_dataset(config.dataset, str(data_dir))
    assert config.dataset.startswith("folder/my_pictures_") and dataset.class_names == tuple(SIZES)
    records = _records(dataset)
    assert set(records) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    for name, record in records.items():
        assert dataset.class_names[record["label"]] == name.split("/")[0]
        assert record["image"] == (folder / name).read_bytes()
    assert {name for name, record in records.items() if record["split"] == "test"} == TEST_NAMES
    report = json.loads((data_dir / config.dataset / "1.0.0" / "report.json").read_text())
    assert report["images"] == 34 and report["classes"] == 3


def test_what_has_not_changed_is_used_again_and_what_has_is_built_anew(built, tmp_path, caplog):
    caplog.set_level(logging.INFO, "tfds_builders")
    folder, data_dir = shutil.copytree(built[0], tmp_path / "mine"), tmp_path / "data"

    def build(**fields):
        caplog.clear()
        config = _config(folder, data_dir)
        config.update(fields)
        prepare(config)
        return config.dataset, "building" in caplog.text

    first, was_built = build()
    assert was_built and build() == (first, False)
    assert first.rpartition("_")[2] != built[2].dataset.rpartition("_")[2]  # another place, the same pictures
    seen = {first}
    for change in (
        lambda: os.utime(folder / "ai" / "00.png", (1, 1)),
        lambda: (folder / "ai" / "00.png").rename(folder / "ai" / "99.png"),
        lambda: _draw(folder / "mi ku" / "new.png", 77),
    ):
        change()
        dataset, was_built = build()
        assert was_built and dataset not in seen
        seen.add(dataset)
    smaller, was_built = build(min_images=5)
    assert was_built and load_dataset(smaller, str(data_dir)).class_names == ("ai", "mi ku")
    (folder / "ai" / "notes.txt").write_text("no picture")
    assert build() == (dataset, False)


def test_two_first_starts_at_once_both_go_on(tmp_path, monkeypatch):
    """The second builds while the first does, and is done before it."""
    config = _config(_draw_folder(tmp_path / "mine"), tmp_path / "data")
    generators, starts = Builder._split_generators, []

    def interrupted(self, manager):
        starts.append(self)
        if len(starts) == 1:
            prepare(copy.deepcopy(config))
        return generators(self, manager)

    monkeypatch.setattr(Builder, "_split_generators", interrupted)
    prepare(config)
    assert len(starts) == 2
    assert load_dataset(config.dataset, config.data_dir).num_examples("train") > 0
    assert [path.name for path in starts[0].data_path.parent.iterdir()] == [starts[0].data_path.name]


def test_a_build_that_was_killed_is_not_taken_for_whole(tmp_path, monkeypatch):
    folder = _draw_folder(tmp_path / "mine")
    config = _config(folder, tmp_path / "data")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tfds_builders.folder.folder_dataset_builder.store_all", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(config)
    assert config.dataset == "folder" and not list((tmp_path / "data").rglob("*.tfrecord*"))
    prepare(config)
    # Killed without a chance to clear up, just before the last step.
    versions = tmp_path / "data" / config.dataset
    shutil.copytree(versions / "1.0.0", versions / "incomplete.ABCDEF_1.0.0")
    assert load_dataset(config.dataset, config.data_dir).num_examples("train") == 23
    shutil.rmtree(versions / "1.0.0")
    with pytest.raises(InputError, match="the command that trained on it builds it again"):
        load_dataset(config.dataset, config.data_dir)


@pytest.mark.parametrize(
    ("splits", "fields", "expected"),
    [
        ({"train": 8}, {}, ("held_out", 1 / 8, "")),
        ({"train": 8}, {"held_out": 0.25}, ("held_out", 0.25, "")),
        ({"train": 3}, {}, ("", 0.0, "")),
        ({"train": 3, "test": 1}, {}, ("", 0.0, "test")),
        ({"train": 8, "val": 1}, {}, ("validation", 0.0, "")),
        ({"train": 8, "val": 1}, {"validation_split": ""}, ("", 0.0, "")),
    ],
)
def test_the_config_follows_the_splits_that_there_are(tmp_path, splits, fields, expected):
    for start, (split, count) in enumerate(splits.items()):
        _draw_folder(tmp_path / "mine" / split, {"a": count, "b": count}, start=start)
    config = _config(tmp_path / "mine", tmp_path / "data")
    config.update(fields)
    prepare(config)
    assert (config.validation_split, config.held_out, config.test_split) == expected


def test_one_command_trains_and_the_others_go_on_from_there(built, tmp_path, capsys):
    """One level, and a resume; then the folder changes, and is gone."""
    folder, workdir = shutil.copytree(built[0], tmp_path / "mine"), tmp_path / "run"
    train = [
        f"--config={ROOT}/configs/folder.py:shallownet", f"--config.folder={folder}", f"--workdir={workdir}",
        f"--config.data_dir={tmp_path / 'data'}", "--config.image_size=16", "--config.crop_margin=4",
        "--config.batch_size=8", "--config.eval_batch_size=8", "--config.epochs=2", "--config.warmup_epochs=0.0",
    ]  # fmt: skip
    assert main(["animesion", *train]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["last"]["examples"] == 9
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["folder"] == str(folder) and saved["dataset"].startswith("folder/mine_")

    assert main(["animesion", *train]) == 0
    assert json.loads(capsys.readouterr().out)["last"] == pytest.approx(results["last"])

    _draw(folder / "ai" / "new.png", 99)
    assert main(["animesion", *train]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the pictures in {folder} have changed since {workdir} was begun" in message
    test_files = sorted(folder / name for name in TEST_NAMES)
    kept = [shutil.copy(file, tmp_path / f"{i}.png") for i, file in enumerate(test_files)]
    shutil.rmtree(folder)
    assert main(["animesion", *train]) == 2
    assert f"{folder} is no folder" in capsys.readouterr().err

    assert main(["animesion", "evaluate", f"--workdir={workdir}", "--weights=last"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(results["last"]["loss"], rel=1e-6)
    bundle = tmp_path / "mine.msgpack"
    export = ["animesion", "export", f"--workdir={workdir}", f"--output={bundle}", "--weights=last"]
    assert main([*export, "--no_calibration"]) == 0
    capsys.readouterr()
    assert main(["animesion", "predict", f"--bundle={bundle}", "--format=json", *map(str, kept)]) == 0
    rows = json.loads(capsys.readouterr().out)
    # The mean loss that evaluation had of the records is that of predict's probabilities of the files.
    likelihoods = [
        next(each["probability"] for each in row["predictions"] if each["class"] == file.parent.name)
        for row, file in zip(rows, test_files, strict=True)
    ]
    assert -np.log(likelihoods).mean() == pytest.approx(results["last"]["loss"], rel=1e-4)


def test_bad_settings_are_named(tmp_path, capsys):
    command = ["animesion", f"--config={ROOT}/configs/folder.py:shallownet", f"--workdir={tmp_path / 'run'}"]
    for flags, words in [
        ([], "config.folder is ''; needed"),
        (["--config.folder=nowhere"], "nowhere is no folder; expected"),
        (["--config.folder=.", "--config.min_images=-1"], "config.min_images is -1; allowed: 0 or more"),
    ]:
        assert main([*command, *flags]) == 2
        message = capsys.readouterr().err.strip()
        assert words in message and len(message.splitlines()) == 1
    for value in (-1, "2", 1.5):
        with pytest.raises(ValueError, match="min_images"):
            FolderConfig(name="x", min_images=value)
    with pytest.raises(ValueError, match="'fast'"):
        folder_config.get_config("resnet18,fast")
    assert not (tmp_path / "run").exists()


def test_the_command_of_the_config_file_works():
    lines = folder_config.__doc__.replace("\\\n", " ").splitlines()
    command = next(line for line in lines if "python -m" in line).split()[3:]
    config = load_config([word.replace("configs/", f"{ROOT}/configs/") for word in command]).config
    assert (config.model, config.dataset, config.folder) == ("vit_s16", "folder", "PATH") and config.pretrained
