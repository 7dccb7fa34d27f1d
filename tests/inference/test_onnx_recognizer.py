"""`--bundle=x.onnx`: ONNX Runtime gives the rows of the msgpack bundle; other files and commands are refused."""

import dataclasses
import io
import json
import re
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

import animesion_jax
from animesion_jax import hub
from animesion_jax.bundle import build_bundle, extend_bundle, load_bundle, read_metadata
from animesion_jax.errors import InputError
from animesion_jax.export import onnx as onnx_export
from animesion_jax.export.onnx import write_onnx
from animesion_jax.inference import heads
from animesion_jax.inference.enroll import enroll
from animesion_jax.inference.heads import head_finder
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.main import main
from tests.detection.onnx_files import draw_blobs, write_blob_detector
from tests.hostile_seeds import CALIBRATION, CROPS, bundle_tree
from tests.known_boxes import KnownBoxes
from tfds_builders.toyfaces.draw import write_new_faces

PLACES = ("inside", "outside")


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of drawn faces, noise and files without an image."""
    folder = tmp_path_factory.mktemp("faces")
    write_new_faces(folder, 1)
    draw = np.random.default_rng(2)
    for number in range(9):
        Image.fromarray(draw.integers(0, 256, (40, 30 + number, 3), np.uint8)).save(folder / f"noise_{number}.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bundle(calibrated, faces, tmp_path_factory):
    """A bundle with a calibration, an enrolled character and the crops of `KnownBoxes`; it knows half of the faces."""
    folder = tmp_path_factory.mktemp("bundles")
    crops = CROPS | {"detector": KnownBoxes.name, "sha256": KnownBoxes.sha256}
    calibration = dataclasses.asdict(load_bundle(str(calibrated[0])).calibration) | {"threshold": 0.5}
    extended = str(folder / "margin.msgpack")
    path = extend_bundle(str(calibrated[0]), extended, crops=crops, calibration=calibration)
    enroll(str(path), "noise", [faces / f"noise_{number}.png" for number in range(4)], str(folder / "all.msgpack"))
    return folder / "all.msgpack"


def _export(bundle, output, place):
    flags = [f"--bundle={bundle}", "--format=onnx", f"--preprocessing={place}", f"--output={output}"]
    assert main(["animesion", "export", *flags]) == 0
    return output


def _rows(bundle, faces, capsys, batch_size=32):
    capsys.readouterr()
    flags = [f"--bundle={bundle}", "--format=jsonl", "--top_k=3", f"--batch_size={batch_size}"]
    assert main(["animesion", "predict", *flags, str(faces)]) == 1
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _check_rows(rows, expected):
    """Compares entries of predictions; probabilities may differ by 1e-5."""
    assert [row["unknown"] for row in rows] == [row["unknown"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for each, wanted in zip(row["predictions"], other["predictions"], strict=True):
            assert {**each, "probability": 0} == {**wanted, "probability": 0}
            assert each["probability"] == pytest.approx(wanted["probability"], abs=1e-5)


@pytest.mark.parametrize("place", PLACES)
def test_predict_prints_the_rows_of_the_msgpack_bundle(bundle, faces, place, tmp_path, capsys):
    model = _export(bundle, tmp_path / "model.onnx", place)
    expected = _rows(bundle, faces, capsys)
    named = [row for row in expected if "error" not in row]
    # Equal rows prove nothing if they do not differ among themselves.
    assert len(named) == 29 and {row["unknown"] for row in named} == {True, False}
    assert len({row["predictions"][0]["class"] for row in named}) > 5
    assert "noise" in {each["class"] for row in named for each in row["predictions"]}
    for batch_size in (1, 7, 32):
        rows = _rows(model, faces, capsys, batch_size)
        assert [row["path"] for row in rows] == [row["path"] for row in expected]
        assert [row for row in rows if "error" in row] == [row for row in expected if "error" in row]
        _check_rows([row for row in rows if "error" not in row], named)


def test_predict_without_calibration_says_nothing_about_unknown_ones(bundle_path, faces, tmp_path, capsys):
    model = _export(bundle_path, tmp_path / "model.onnx", "inside")
    rows = [row for row in _rows(model, faces, capsys) if "error" not in row]
    assert {row["unknown"] for row in rows} == {None}
    _check_rows(rows, [row for row in _rows(bundle_path, faces, capsys) if "error" not in row])


@pytest.mark.parametrize("place", PLACES)
def test_predict_pictures_cuts_heads_with_the_files_margin(bundle, place, tmp_path, monkeypatch, caplog):
    detector, files = KnownBoxes(), []
    monkeypatch.setattr(heads, "load_detector", detector.load)
    draw = np.random.default_rng(5)
    for number, count in enumerate((2, 0, 5, 1)):
        clouds = Image.fromarray(draw.integers(0, 256, (5, 4, 3), np.uint8)).resize((160, 200))
        boxes = [(20 + 9 * each, 40, 60 + 9 * each, 70 + 20 * each) for each in range(count)]
        files.append(detector.write(tmp_path / f"{number}.png", clouds, boxes))
    results = {}
    for file in (bundle, _export(bundle, tmp_path / "model.onnx", place)):
        recognizer = animesion_jax.load(file, batch_size=3)
        finder = head_finder(recognizer.bundle, "boxes.onnx")
        assert finder.margin == (1.5, 0.25, "pad")
        results[file.suffix] = list(recognizer.predict_pictures(files, finder, 2, whole_if_none=True))
    assert "margin" not in caplog.text
    expected, rows = results.values()
    assert [row["path"] for row in rows] == [str(file) for file in files]
    for row, other in zip(rows, expected, strict=True):
        assert [(each["box"], each["confidence"]) for each in row["faces"]] == [
            (each["box"], each["confidence"]) for each in other["faces"]
        ]
        _check_rows(row["faces"], other["faces"])
    assert [len(row["faces"]) for row in rows] == [2, 1, 5, 1]


def test_predict_and_find_cut_heads_with_the_files_margin_on_the_command_line(bundle, tmp_path, capsys):
    detector, pictures = write_blob_detector(tmp_path / "heads.onnx"), tmp_path / "pictures"
    pictures.mkdir()
    for number, boxes in enumerate([[(8, 4, 24, 20), (40, 36, 56, 52)], [], [(20, 20, 36, 36)]]):
        draw_blobs((64, 64), boxes).save(pictures / f"{number}.png")
    crops = CROPS | {"detector": detector.name, "sha256": hub.sha256(detector)}
    known = extend_bundle(str(bundle), str(tmp_path / "known.msgpack"), crops=crops)
    printed, cut = [], []
    for file in (known, _export(known, tmp_path / "model.onnx", "inside")):
        capsys.readouterr()
        flags = [f"--bundle={file}", f"--detector={detector}"]
        assert main(["animesion", "predict", *flags, "--format=jsonl", str(pictures)]) == 0
        printed.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
        folder = tmp_path / f"crops of {file.name}"
        assert main(["animesion", "find", *flags, f"--crops={folder}", str(pictures)]) == 0
        cut.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert cut[0] == cut[1] and len(cut[0]) == 3
    # 1.5 times the box of 16 px, moved up by a quarter of it; the edges are rounded to even numbers.
    assert Image.open(io.BytesIO(max(cut[0].items())[1])).size == (24, 24)
    for row, expected in zip(printed[1], printed[0], strict=True):
        assert row | {"faces": 0} == expected | {"faces": 0}
        assert [each["box"] for each in row["faces"]] == [each["box"] for each in expected["faces"]]
        _check_rows(row["faces"], expected["faces"])
    assert [len(row["faces"]) for row in printed[0]] == [2, 0, 1]


@pytest.mark.parametrize("place", PLACES)
def test_runtime_gets_batches_without_padding(bundle, place, tmp_path):
    # Values differ by channel and between the two, so that no mix-up is hidden.
    loaded = dataclasses.replace(load_bundle(str(bundle)), mean=(0.6, 0.5, 0.3), std=(0.2, 0.3, 0.25))
    (model,) = write_onnx(loaded, str(tmp_path / "model.onnx"), normalize_inside=place == "inside")
    recognizer = animesion_jax.load(model, batch_size=4)
    session, shapes = recognizer._session, []

    class Recording:
        def run(self, outputs, inputs):
            shapes.append(inputs["images"].shape[0])
            return session.run(outputs, inputs)

    recognizer._session = Recording()
    images = np.random.default_rng(1).integers(0, 256, (10, 32, 32, 3), np.uint8)
    expected = Recognizer(loaded).probabilities(images)
    np.testing.assert_allclose(recognizer.probabilities(images), expected, atol=1e-5)
    assert shapes == [4, 4, 2] and recognizer.probabilities(images[:0]).shape == (0, 21)
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for file, image in zip(files, images, strict=False):
        Image.fromarray(image).save(file)
    rows = list(recognizer.predict_files(files, top_k=1))
    assert [row["predictions"][0]["probability"] for row in rows] == pytest.approx(expected[:6].max(1), abs=1e-5)
    assert shapes == [4, 4, 2, 4, 2]


def _tiny(**parts):
    """Returns a bundle of the smallest model, calibrated, with crops."""
    return build_bundle("tiny", bundle_tree() | {"calibration": CALIBRATION, "crops": CROPS} | parts)


def test_metadata_is_read_as_it_was_written(tmp_path):
    bundle = dataclasses.replace(_tiny(), mean=(0.6, 0.5, 0.3), std=(0.2, 0.3, 0.25), fit="pad")
    (file,) = write_onnx(bundle, str(tmp_path / "a.onnx"))
    said = animesion_jax.load(file).bundle
    for name in ("names", "image_size", "mean", "std", "fit", "threshold"):
        assert getattr(said, name) == getattr(bundle, name), name
    assert said.threshold == 0.6 and said.crops == dataclasses.replace(bundle.crops, source={})
    plain = read_metadata(
        {"classes": "[]", "preprocessing": '{"size": 8, "fit": "pad", "mean": [0,0,0], "std": [1,1,1]}'}
    )
    assert plain.threshold is None and plain.crops is None


def _with_metadata(model, **entries):
    for entry in model.metadata_props:
        entry.value = entries.pop(entry.key, entry.value)
    assert not entries
    return model


PREPROCESSING = {"size": 16, "fit": "pad", "mean": [0.5] * 3, "std": [0.5] * 3}
SIZES = [json.dumps(PREPROCESSING | {"size": size}) for size in (8, 1 << 70, "16", None, True)]
# Changed entries of the metadata, and words of the error.
ENTRIES = [
    ({"preprocessing": "{"}, "Expecting property name"),
    ({"preprocessing": "[]"}, "'preprocessing' is list"),
    ({"preprocessing": json.dumps(PREPROCESSING | {"fit": None})}, "fit is None"),
    ({"preprocessing": json.dumps(PREPROCESSING | {"std": [0, 1, 1]})}, "std above 0"),
    ({"classes": "[" * 100_000}, "recursion"),
    ({"classes": '["a", "b", "c"]'}, "for 3 names"),
    ({"classes": '["a", "a"]'}, "2 classes are named 'a'"),
    ({"calibration": '{"threshold": NaN}'}, "threshold is nan"),
    ({"calibration": '{"temperature": 1.0}'}, "threshold"),
    ({"crops": '{"detector": "/a/b", "sha256": "0"}'}, "'/a/b'"),
    ({"normalization": "outside"}, r"its input is .*tensor\(uint8\)"),
    ({"normalization": "[1]"}, "its input is"),
]


@pytest.mark.parametrize(("entries", "words"), ENTRIES, ids=[words for _, words in ENTRIES])
def test_metadata_that_export_does_not_write_is_refused_in_one_line(entries, words, tmp_path):
    (file,) = write_onnx(_tiny(), str(tmp_path / "model.onnx"), normalize_inside=True)
    onnx.save(_with_metadata(onnx.load(str(file)), **entries), str(file))
    with pytest.raises(InputError, match=words) as caught:
        animesion_jax.load(file)
    assert str(caught.value).startswith(f"{file} is no model of this program (") and "export" in str(caught.value)


def test_files_of_other_programs_are_refused_in_one_line(tmp_path):
    (file,) = write_onnx(_tiny(), str(tmp_path / "model.onnx"), normalize_inside=True)
    model = onnx.load(str(file))
    model.graph.node[3].domain = "my.domain"
    model.opset_import.append(onnx.helper.make_opsetid("my.domain", 1))
    onnx.save(model, str(tmp_path / "custom.onnx"))
    with pytest.raises(InputError, match=r"ONNX Runtime cannot open .*custom\.onnx \(.*my\.domain"):
        animesion_jax.load(tmp_path / "custom.onnx")
    detector = write_blob_detector(tmp_path / "detector.onnx")
    with pytest.raises(InputError, match=r"no classes, preprocessing, normalization.*a detector is for --detector"):
        animesion_jax.load(detector)


@pytest.mark.parametrize("preprocessing", SIZES)
def test_sizes_that_are_not_the_inputs_are_refused(preprocessing, tmp_path):
    (file,) = write_onnx(_tiny(), str(tmp_path / "model.onnx"), normalize_inside=True)
    onnx.save(_with_metadata(onnx.load(str(file)), preprocessing=preprocessing), str(file))
    with pytest.raises(InputError, match=r"is no model of this program .*(size|input)"):
        animesion_jax.load(file)


@pytest.mark.parametrize("name", ["cut", "empty", "text", "folder", "absent"])
def test_damaged_and_missing_files_are_one_line_on_the_command_line(name, tmp_path, capfd):
    file = tmp_path / f"{name}.onnx"
    if name == "folder":
        file.mkdir()
    elif name != "absent":
        (whole,) = write_onnx(_tiny(), str(tmp_path / "model.onnx"))
        content = whole.read_bytes()
        file.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "text": b"hello\n" * 9}[name])
    Image.new("RGB", (8, 8)).save(tmp_path / "face.png")
    assert main(["animesion", "predict", f"--bundle={file}", str(tmp_path / "face.png")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    expected = "no ONNX file at" if name in ("folder", "absent") else "ONNX Runtime cannot open"
    assert line.startswith(f"animesion predict: error: {expected} {file}") and "export" in line


def test_weights_in_a_second_file_are_used_and_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 100)
    first, second = write_onnx(_tiny(), str(tmp_path / "large.onnx"))
    assert animesion_jax.load(first).predict(Image.new("RGB", (9, 9)))[0][0]["probability"] == 0.5
    second.unlink()
    with pytest.raises(InputError, match=re.escape("weights above 2 GB are in a file large.onnx.data beside it")):
        animesion_jax.load(first)


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    (file,) = write_onnx(_tiny(), str(tmp_path / "model.onnx"), normalize_inside=True)
    model = onnx.load(str(file))
    for each in model.graph.initializer:
        if each.data_type == onnx.TensorProto.FLOAT:
            each.CopyFrom(onnx.numpy_helper.from_array(np.full(list(each.dims), np.nan, np.float32), each.name))
    onnx.save(model, str(file))
    with pytest.raises(InputError, match=r"model\.onnx is damaged: a probability is not finite; export it again"):
        animesion_jax.load(file).predict(Image.new("RGB", (9, 9)))


def test_commands_that_need_more_than_names_ask_for_the_msgpack_bundle(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_onnx(_tiny(), "model.onnx", normalize_inside=True)
    (tmp_path / "faces" / "yui").mkdir(parents=True)
    Image.new("RGB", (20, 20), "pink").save("faces/yui/a.png")
    before = sorted(tmp_path.rglob("*"))
    for command, *arguments in (
        ["embed", "--output=a.npz", "faces"],
        ["explain", "--output=maps", "faces"],
        ["enroll", "--name=New", "--output=new.msgpack", "faces"],
        ["serve", "--port=0"],
        ["calibrate", "--workdir=run"],
        ["calibrate", "--detector=d.onnx", "--pictures=faces", "--output=new.msgpack"],
        ["export", "--format=safetensors", "--output=new.safetensors"],
        ["evaluate", "faces"],
    ):
        assert main(["animesion", command, "--bundle=model.onnx", *arguments]) == 2, command
        error = capsys.readouterr().err
        assert error == (
            f"animesion {command}: error: model.onnx is an ONNX file, which only predict, find and animesion_jax.load "
            "read; give the msgpack bundle that it was exported from\n"
        )
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_onnxruntime_is_named_with_the_extra(tmp_path, monkeypatch, capsys):
    write_onnx(_tiny(), str(tmp_path / "model.onnx"))
    Image.new("RGB", (8, 8)).save(tmp_path / "face.png")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "animesion_jax.inference.onnx_recognizer", raising=False)
    assert main(["animesion", "predict", f"--bundle={tmp_path / 'model.onnx'}", str(tmp_path / "face.png")]) == 2
    assert capsys.readouterr().err.endswith("package onnxruntime; install it: pip install 'animesion-jax[onnx]'\n")


def test_paths_of_any_case_and_home_folder_are_onnx_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_onnx(_tiny(), str(tmp_path / "model.ONNX"))
    assert animesion_jax.load("~/model.ONNX").bundle.names == ("yui", "あかり")
    with pytest.raises(InputError, match="batch_size is 0"):
        animesion_jax.load("~/model.ONNX", batch_size=0)
