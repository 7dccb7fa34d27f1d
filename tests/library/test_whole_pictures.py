"""A folder of whole pictures to a model: heads are found and cropped while the data set is built."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import animesion_jax
from animesion_jax.bundle import load_bundle
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.decode import decode, decode_and_resize
from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from animesion_jax.export.run_to_bundle import export
from animesion_jax.images import read_image
from animesion_jax.inference.heads import HeadFinder, head_finder
from animesion_jax.library.folder import build_folder
from animesion_jax.main import main
from animesion_jax.preprocessing import FITS, Margin
from tests.character_folders import draw_folder, stored_records, toy_folder_config
from tests.conftest import ROOT
from tests.detection.onnx_files import write_blob_detector

# The detector stretches pictures to 64 x 64 and finds red rectangles whose sides are a quarter of the picture's, at
# multiples of a sixteenth of it.
SIZES = [(128, 192), (192, 128), (256, 256)]
CHARACTERS = ("ai", "mei")
HEADS = 10
SCALE, SHIFT = 1.5, 0.25


def head_box(number):
    """Returns the size of the picture with a number, and the box of its head; some heads are at the edge."""
    width, height = SIZES[number % len(SIZES)]
    left, top = width // 16 * (5 * number % 13), height // 16 * (3 * number % 13)
    return (width, height), (left, top, left + width // 4, top + height // 4)


def draw_picture(path, size, boxes, seed):
    """Writes noise without red, and a red rectangle at each box."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers((0, 100, 100), (100, 256, 256), (size[1], size[0], 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    for box in boxes:
        picture.paste((255, 0, 0), box)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def draw_pictures(folder):
    """Writes 10 pictures with a head for each character, one with none and one with two."""
    for which, name in enumerate(CHARACTERS):
        for number in range(HEADS):
            draw_picture(folder / name / f"{number:02d}.png", *_one(number), (which, number))
        draw_picture(folder / name / "none.png", (64, 64), [], (which, 98))
        draw_picture(folder / name / "two.bmp", (64, 64), [(0, 0, 16, 16), (32, 32, 48, 48)], (which, 99))
    return folder


def _one(number):
    size, box = head_box(number)
    return size, [box]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The folder of pictures, the detector's file, and the folder of data sets."""
    root = tmp_path_factory.mktemp("whole")
    return draw_pictures(root / "pictures"), write_blob_detector(root / "heads.onnx"), root / "data"


def make_config(places, **fields):
    folder, detector, data = places
    config = toy_folder_config(folder, data)
    config.update({"detector": str(detector), "box_scale": SCALE, "box_shift": SHIFT} | fields)
    return config


@pytest.fixture(scope="module")
def built(places):
    config = make_config(places)
    build_folder(config)
    return config


def test_pictures_with_one_head_are_kept_and_the_others_are_listed(built, places, caplog):
    dataset = load_dataset(built.dataset, str(places[2]))
    assert dataset.class_names == CHARACTERS
    names = {f"{name}/{number:02d}.png" for name in CHARACTERS for number in range(HEADS)}
    assert set(stored_records(dataset.builder)) == names
    report = json.loads((places[2] / built.dataset / "1.0.0" / "report.json").read_text(encoding="utf-8"))
    assert report["left_out"]["no_head"] == ["ai/none.png", "mei/none.png"]
    assert report["left_out"]["several_heads"] == {"ai/two.bmp": 2, "mei/two.bmp": 2}
    assert not report["left_out"]["copies"] and not report["left_out"]["under_several_characters"]
    assert report["images"] == 20 and report["by_class"]["ai"] == {"train": 7, "validation": 0, "test": 3}
    expected = {
        "detector": "heads.onnx", "sha256": load_detector(str(places[1])).sha256, "min_confidence": 0.0,
        "scale": SCALE, "shift": SHIFT,
    }  # fmt: skip
    assert report["crops"] == dataset.crops == expected


def test_stored_pixels_are_those_around_the_head(built, places):
    """Compares with regions worked out by hand and cut by Pillow."""
    records = stored_records(load_dataset(built.dataset, str(places[2])).builder)
    clipped = 0
    for name, record in records.items():
        (width, height), (left, top, right, bottom) = head_box(int(Path(name).stem))
        # 1.5 boxes wide and high, moved up by a quarter of a box: a quarter at each side, a half above, none below.
        region = (left - width // 16, top - height // 8, right + width // 16, bottom)
        inside = (max(region[0], 0), max(region[1], 0), min(region[2], width), region[3])
        clipped += region != inside
        with Image.open(places[0] / name) as picture:
            np.testing.assert_array_equal(decode(record["image"]), np.asarray(picture.crop(inside)), err_msg=name)
    assert 4 <= clipped < len(records)


@pytest.mark.parametrize("fit", FITS)
def test_training_sees_the_pixels_that_prediction_cuts_out(built, places, fit):
    finder = HeadFinder(load_detector(str(places[1])), Margin(SCALE, SHIFT, fit), 24)
    for name, record in stored_records(load_dataset(built.dataset, str(places[2])).builder).items():
        (head,) = finder.find(read_image(places[0] / name))
        np.testing.assert_array_equal(decode_and_resize(record["image"], 24, fit), head.pixels, err_msg=name)


def test_another_detector_margin_or_confidence_builds_another_data_set(built, places, tmp_path, caplog):
    caplog.set_level(logging.INFO, "animesion_jax")
    again = make_config(places)
    build_folder(again)
    assert again.dataset == built.dataset and "building" not in caplog.text
    assert again.detector == built.detector == str(places[1])
    other = write_blob_detector(tmp_path / "heads.onnx", score=0.9)
    seen = {built.dataset}
    for change in ({"box_scale": 2.0}, {"box_shift": 0.0}, {"min_confidence": 0.5}, {"detector": str(other)}):
        config = make_config(places, **change)
        build_folder(config)
        seen.add(config.dataset)
    assert len(seen) == 5
    padded = make_config(places, fit="pad")
    build_folder(padded)
    assert padded.dataset == built.dataset  # the crops are the same


def test_crops_are_compared_not_pictures(places, tmp_path, caplog):
    """Without a margin all crops are red rectangles; with one, only number 3 is the same for both characters."""
    folder = tmp_path / "mine"
    for name in CHARACTERS:
        for number in range(3):
            draw_picture(folder / name / f"{number}.png", *_one(number), (name == "ai", number))
        draw_picture(folder / name / "3.png", *_one(3), 3)
    config = make_config((folder, places[1], tmp_path / "data"), box_scale=1.0, box_shift=0.0)
    with pytest.raises(InputError, match="2 characters have fewer than 2 images"):
        build_folder(config)
    config.box_scale = 2.0
    build_folder(config)
    report = json.loads((tmp_path / "data" / config.dataset / "1.0.0" / "report.json").read_text(encoding="utf-8"))
    assert report["left_out"]["under_several_characters"] == [["ai/3.png", "mei/3.png"]] and report["images"] == 6


def _command(places, workdir, *flags):
    folder, detector, data = places
    return [
        "animesion", f"--config={ROOT}/configs/folder.py:shallownet", f"--config.folder={folder}",
        f"--config.data_dir={data}", f"--config.detector={detector}", f"--config.box_scale={SCALE}",
        f"--config.box_shift={SHIFT}", "--config.image_size=16", "--config.crop_margin=4", "--config.batch_size=4",
        "--config.eval_batch_size=8", "--config.epochs=2", "--config.warmup_epochs=0.0", "--config.fit=pad",
        f"--workdir={workdir}", *flags,
    ]  # fmt: skip


def test_train_export_and_predict_cut_heads_alike(places, tmp_path, monkeypatch, capsys, caplog):
    folder, detector, _ = places
    workdir, bundle = tmp_path / "run", tmp_path / "mine.msgpack"
    monkeypatch.chdir(detector.parent)
    relative = (folder, detector.name, places[2])
    assert main(_command(relative, workdir)) == 0
    results = json.loads(capsys.readouterr().out)
    assert json.loads((workdir / "config.json").read_text(encoding="utf-8"))["detector"] == str(detector)
    crops = json.loads((workdir / "origin.json").read_text(encoding="utf-8"))["crops"]
    assert crops["detector"] == "heads.onnx" and crops["fit"] == "pad" and str(tmp_path) not in str(crops)

    export(str(workdir), str(bundle), "last")
    loaded = load_bundle(str(bundle))
    assert loaded.crops.margin == Margin(SCALE, SHIFT, "pad") and loaded.crops.detector == "heads.onnx"
    assert loaded.crops.source == {"training": True, "min_confidence": 0.0}
    assert loaded.training["config"]["detector"] == "heads.onnx"
    assert str(detector.parent).encode() not in bundle.read_bytes()

    caplog.clear()
    finder = head_finder(loaded, str(detector))
    assert finder.margin == loaded.crops.margin and not caplog.records
    files = [folder / name / f"{number:02d}.png" for name in CHARACTERS for number in (7, 8, 9)]
    assert results["last"]["examples"] == len(files)
    rows = list(animesion_jax.load(bundle).predict_pictures(files, finder, top_k=2))
    likelihoods = [
        next(each["probability"] for each in row["faces"][0]["predictions"] if each["class"] == file.parent.name)
        for row, file in zip(rows, files, strict=True)
    ]
    # The loss of evaluate, from the records, is that of predict's probabilities, from the pictures.
    assert -np.log(likelihoods).mean() == pytest.approx(results["last"]["loss"], rel=1e-4)


def test_resumed_run_refuses_another_detector_and_margin(places, tmp_path, capsys):
    workdir, detector = tmp_path / "run", tmp_path / "mine.onnx"
    write_blob_detector(detector)
    mine = (places[0], detector, places[2])
    assert main(_command(mine, workdir)) == 0
    origin = (workdir / "origin.json").read_bytes()
    assert main(_command(mine, workdir)) == 0 and (workdir / "origin.json").read_bytes() == origin
    capsys.readouterr()
    assert main(_command(mine, workdir, "--config.box_scale=2.0")) == 2
    assert f"box_scale was {SCALE}, is 2.0" in capsys.readouterr().err
    write_blob_detector(detector, score=0.9)
    assert main(_command(mine, workdir)) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the detector {detector} has changed since {workdir} was started" in message and "--accept_ch" in message
    assert (workdir / "origin.json").read_bytes() == origin
    # The bundle then has the margin of the last epochs.
    more = ("--config.box_scale=2.0", "--config.epochs=3", "--accept_changes")
    assert main(_command(mine, workdir, *more)) == 0
    crops = json.loads((workdir / "origin.json").read_text(encoding="utf-8"))["crops"]
    assert crops["scale"] == 2.0 and crops["sha256"] == load_detector(str(detector)).sha256


def test_pictures_without_heads_are_refused_with_the_reason(places, tmp_path):
    folder = draw_folder(tmp_path / "mine", {"a": 5, "b": 5})
    with pytest.raises(InputError) as caught:
        build_folder(make_config((folder, *places[1:])))
    message = str(caught.value)
    assert "2 characters have fewer than 2 images" in message and len(message.splitlines()) == 1
    assert "10 of 10 pictures are left out because the detector found no head or several" in message


def test_heads_below_the_minimum_confidence_do_not_count(places, tmp_path):
    halved = write_blob_detector(tmp_path / "heads.onnx", score=0.5)
    mine = (places[0], halved, tmp_path / "data")
    with pytest.raises(InputError, match="24 of 24 pictures are left out"):
        build_folder(make_config(mine, min_confidence=0.6))
    build_folder(make_config(mine, min_confidence=0.4))


def test_bad_detectors_are_reported_in_one_line(places, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.onnx").write_text("no detector")
    (tmp_path / "text.xml").write_text("no detector")
    for name, words in [
        ("nowhere.onnx", "no detector at"),
        ("text.onnx", "text.onnx"),
        ("text.xml", "text.xml is not a"),
        ("s3://bucket/heads.onnx", "s3://bucket/heads.onnx"),
    ]:
        detector = name if "://" in name else tmp_path / name
        assert main(_command((places[0], detector, places[2]), tmp_path / "run")) == 2
        message = capsys.readouterr().err.strip()
        assert words in message and len(message.splitlines()) == 1, message
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        patched.delitem(sys.modules, "animesion_jax.detection.onnx_yolo", raising=False)
        assert main(_command(places, tmp_path / "run")) == 2
        assert "animesion-jax[detect]" in capsys.readouterr().err
    assert main([*_command(("", *places[1:]), tmp_path / "run"), "--config.dataset=toyfaces"]) == 2
    assert "without config.folder; needed: the folder of the whole pictures" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
