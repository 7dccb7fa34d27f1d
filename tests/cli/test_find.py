"""The commands `find` and `predict --detector`, on pictures whose heads are known."""

import csv
import hashlib
import json
import logging
import shutil

import flax.serialization
import numpy as np
import pytest
from PIL import Image

from animesion_jax.bundle import load_bundle
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.main import main
from animesion_jax.preprocessing import resize
from tests.detection.onnx_files import draw_blobs, write_blob_detector
from tests.hostile_seeds import CALIBRATION, bundle_tree

# On the detector's grid, for an input of 64 x 64 pixels to which pictures of 128 x 64 are squeezed.
HEADS = [(0, 0, 32, 16), (72, 32, 104, 48)]


@pytest.fixture
def pictures(tmp_path):
    """A folder with two heads, one, none, and a file that is no picture."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    draw_blobs((128, 64), HEADS).save(folder / "a.png")
    draw_blobs((128, 64), HEADS[1:]).save(folder / "sub" / "a.png")
    draw_blobs((128, 64), []).save(folder / "none.png")
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    return folder


@pytest.fixture
def detector(tmp_path):
    return write_blob_detector(tmp_path / "blobs.onnx")


@pytest.fixture
def bundle(tmp_path):
    """A bundle of two characters that pads crops of twice the box's size."""
    tree = bundle_tree() | {"calibration": CALIBRATION | {"threshold": 0.1}}
    path = tmp_path / "two.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def _with_margin(bundle, detector, **margin):
    crops = {"detector": detector.name, "sha256": hashlib.sha256(detector.read_bytes()).hexdigest(), "source": {}}
    tree = flax.serialization.msgpack_restore(bundle.read_bytes()) | {"crops": crops | margin}
    bundle.write_bytes(flax.serialization.msgpack_serialize(tree))
    return bundle


def _run(command, *arguments):
    return main(["animesion", command, *map(str, arguments)])


def _lines(text):
    return {row["path"]: row for row in map(json.loads, text.splitlines())}


def _boxes(row):
    return sorted(tuple(face["box"]) for face in row["faces"])


def test_find_writes_a_line_for_each_picture(pictures, detector, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    output = tmp_path / "boxes.jsonl"
    assert _run("find", f"--detector={detector}", f"--output={output}", pictures) == 1
    rows = _lines(output.read_text(encoding="utf-8"))
    assert list(rows) == [str(pictures / name) for name in ("a.png", "none.png", "sub/a.png", "text.png")]
    a, none, sub, text = rows.values()
    assert (_boxes(a), _boxes(none), _boxes(sub)) == (HEADS, [], HEADS[1:])
    assert all(face.keys() == {"box", "confidence"} and 0.5 < face["confidence"] <= 1 for face in a["faces"])
    assert text["error"].startswith("not a readable image")
    assert caplog.messages[-1] == "4 pictures: 3 heads, 1 without a head, 1 with an error"
    # A second start adds the new picture only.
    before = output.read_bytes()
    shutil.copy(pictures / "a.png", pictures / "new.png")
    assert _run("find", f"--detector={detector}", f"--output={output}", pictures) == 0
    assert output.read_bytes().startswith(before) and len(_lines(output.read_text(encoding="utf-8"))) == 5
    assert _run("find", f"--detector={detector}", pictures / "a.png") == 0
    assert _lines(capsys.readouterr().out) == {str(pictures / "a.png"): a}


def test_find_without_a_margin_cuts_the_boxes_as_they_are(pictures, detector, tmp_path):
    folders = [f"--crops={tmp_path / 'crops'}", f"--overlays={tmp_path / 'drawn'}"]
    assert _run("find", f"--detector={detector}", *folders, pictures) == 1
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png.*png"))
    assert written == ["crops/a.png.1.png", "crops/a.png.2.png", "crops/sub/a.png.1.png", *[
        f"drawn/{name}.png" for name in ("a.png", "none.png", "sub/a.png")
    ]]  # fmt: skip
    crop = Image.open(tmp_path / "crops/sub/a.png.1.png")
    assert crop.size == (32, 16) and crop.getcolors() == [(32 * 16, (255, 0, 0))]
    drawn = np.asarray(Image.open(tmp_path / "drawn/sub/a.png.png"))
    assert drawn.shape == (64, 128, 3) and tuple(drawn[40, 72]) == (79, 70, 229)


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_crops_of_a_bundle_are_named_like_the_heads_on_the_pictures(pictures, detector, bundle, tmp_path, fit):
    """A crop file gives the model the same pixels, also if the bundle itself stretches images."""
    _with_margin(bundle, detector, scale=2.0, shift=0.25, fit=fit)
    crops = tmp_path / "crops"
    _run("find", f"--detector={detector}", f"--bundle={bundle}", f"--crops={crops}", pictures)
    # Around (72, 32) to (104, 48): 64 x 32 pixels, 4 pixels up.
    crop = Image.open(crops / "sub/a.png.1.png")
    assert crop.size == {"squash": (64, 32), "pad": (64, 64)}[fit]
    inside = Image.open(pictures / "sub/a.png").crop((56, 20, 120, 52))
    size = load_bundle(str(bundle)).image_size
    np.testing.assert_array_equal(resize(crop, size, "squash"), resize(inside, size, fit))
    output = tmp_path / "names.jsonl"
    _run("predict", f"--detector={detector}", f"--bundle={bundle}", f"--output={output}", pictures)
    rows = _lines(output.read_text(encoding="utf-8"))
    ((ranked,),) = [Recognizer(load_bundle(str(bundle)), 1).predict([crop])]
    (face,) = rows[str(pictures / "sub/a.png")]["faces"]
    assert [each["class"] for each in face["predictions"]] == [each["class"] for each in ranked]
    assert face["predictions"][0]["probability"] == pytest.approx(ranked[0]["probability"], abs=1e-6)
    assert _boxes(rows[str(pictures / "a.png")]) == HEADS


def test_predict_names_every_head_in_every_format(pictures, detector, bundle, tmp_path, capsys):
    flags = [f"--detector={detector}", f"--bundle={bundle}", "--top_k=1"]
    assert _run("predict", *flags, pictures) == 1
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "head", "character", "probability", "next", "likeliest"]
    columns = [line.removeprefix(str(pictures)).split()[:3] for line in lines]
    name = columns[0][2]
    assert columns == [
        ["/a.png", "1", name], ["/a.png", "2", columns[1][2]], ["/none.png", "no", "head"],
        ["/sub/a.png", "1", columns[3][2]], ["/text.png", "error", "not"],
    ]  # fmt: skip
    assert last == "4 pictures with 3 heads: 3 named, 1 without a head, 1 with an error"
    output = tmp_path / "names.csv"
    assert _run("predict", *flags, "--whole_if_none", f"--output={output}", pictures) == 1
    with output.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    whole = [row for row in rows if row["path"] == str(pictures / "none.png")]
    assert [(row["face"], row["faces"], row["right"], row["confidence"]) for row in whole] == [("1", "1", "128", "")]
    assert [row["faces"] for row in rows] == ["2", "2", "1", "1", ""]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predict --bundle={b} --min_confidence=0.5 {p}", "--min_confidence=0.5 is for --detector; give both"),
        ("predict --bundle={b} --whole_if_none {p}", "--whole_if_none is for --detector; give both"),
        ("predict --bundle={b} --detector={d} --min_confidence=2 {p}", "allowed: 0 to 1"),
        ("find --detector={d} --crops={p}/crops {p}", "is inside {p}, whose images are read"),
        ("find --detector={d} --overlays={p} {p}", "is inside {p}, whose images are read"),
        ("find --detector={d} --output=a.csv {p}", "allowed: a file named *.jsonl"),
        ("find --detector={d} --crops=x {p}/a.png {p}/sub/a.png", "have the same crops"),
        ("find --detector={p}/absent.onnx {p}", "no detector at {p}/absent.onnx"),
    ],
)
def test_flags_that_do_not_fit_are_refused(pictures, detector, bundle, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    names = {"b": bundle, "d": detector, "p": pictures}
    assert _run(*arguments.format(**names).split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words.format(**names) in line


def test_find_with_an_unwritable_crop_reports_the_picture(pictures, detector, tmp_path):
    name = "n" * 250 + ".png"
    shutil.copy(pictures / "a.png", pictures / name)
    output = tmp_path / "boxes.jsonl"
    assert _run("find", f"--detector={detector}", f"--output={output}", f"--crops={tmp_path / 'crops'}", pictures) == 1
    rows = _lines(output.read_text(encoding="utf-8"))
    assert "cannot be written: File name too long" in rows[str(pictures / name)]["error"]
    assert _boxes(rows[str(pictures / "a.png")]) == HEADS
