"""Odd pictures with a detector on the command line: a right answer or one line about each, in bounded memory."""

import json

import flax.serialization
import numpy as np
import pytest
from onnx import helper
from PIL import Image

from animesion_jax.main import main
from tests.detection.onnx_files import draw_blobs, write_blob_detector, write_model
from tests.hostile_seeds import bundle_tree

# On 80 x 80 pixels. The detector stretches every picture to 64 x 64 and finds red squares of 16 x 16 on a grid of 4.
ON_THE_PICTURE = [20, 40, 40, 60]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(bundle, detector)."""
    root = tmp_path_factory.mktemp("odd")
    bundle = root / "two.msgpack"
    bundle.write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    return bundle, write_blob_detector(root / "blobs.onnx")


def _rows(command, folder, files, output, *flags):
    """Runs a command on a folder; returns its exit status and the rows by name of the file."""
    bundle, detector = files
    of_model = [f"--bundle={bundle}"] if command == "predict" else []
    arguments = [f"--detector={detector}", *of_model, f"--output={output}", *flags, str(folder)]
    status = main(["animesion", command, *arguments])
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return status, {row["path"].rpartition("/")[2]: row for row in rows}


def _head(size=(80, 80), box=tuple(ON_THE_PICTURE), mode="RGB"):
    return draw_blobs(size, [box]).convert(mode)


def _write_pictures(folder):
    """Writes a picture of each kind with the same head, and files that are no pictures."""
    folder.mkdir()
    _head().save(folder / "rgb.png")
    _head(mode="CMYK").save(folder / "cmyk.tiff")
    frames = [_head(), Image.new("RGB", (80, 80), "blue")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=9)
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:], duration=9)
    clear = _head(mode="RGBA")
    clear.paste((255, 0, 0, 0), (60, 60, 80, 80))  # a red square that is transparent: white
    clear.save(folder / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which is ignored as in training
    _head().save(folder / "turned.jpg", exif=exif, quality=100, subsampling=0)
    _head().quantize().save(folder / "palette.png")
    Image.fromarray(np.full((80, 80), 30_000, np.uint16)).save(folder / "16_bits.png")
    _head((1, 5000), (0, 2000, 1, 3000)).save(folder / "high.png")
    _head((5000, 1), (2000, 0, 3000, 1)).save(folder / "wide.png")
    _head((1, 1), (0, 0, 1, 1)).save(folder / "one.png")
    (folder / "text.png").write_text("no picture", encoding="utf-8")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "rgb.png").read_bytes()[:60])


@pytest.mark.parametrize("command", ["find", "predict"])
def test_pictures_of_every_kind(command, files, tmp_path):
    _write_pictures(tmp_path / "pictures")
    status, rows = _rows(command, tmp_path / "pictures", files, tmp_path / "rows.jsonl")
    assert status == 1
    errors = {name: row["error"] for name, row in rows.items() if "error" in row}
    assert set(errors) == {"text.png", "empty.jpg", "cut.png"}
    assert all(error and len(error.splitlines()) == 1 for error in errors.values())
    boxes = {name: [face["box"] for face in row["faces"]] for name, row in rows.items() if "faces" in row}
    # Pictures of one pixel in a direction: the head is stretched to 64 x 13 of 64 x 64 pixels, no square.
    none = {name: [] for name in ("16_bits.png", "high.png", "wide.png")}
    one = {"one.png": boxes["one.png"]}  # all red: every box is the whole picture
    assert boxes == {name: [ON_THE_PICTURE] for name in boxes} | none | one
    assert {tuple(box) for box in boxes["one.png"]} == {(0, 0, 1, 1)}
    if command == "predict":
        faces = [face for row in rows.values() for face in row.get("faces", [])]
        assert all(len(face["predictions"]) == 2 and face["unknown"] is None for face in faces)


@pytest.mark.parametrize("command", ["find", "predict"])
def test_89_megapixels_are_searched_and_100_are_refused(command, files, tmp_path):
    (tmp_path / "pictures").mkdir()
    box = (2350, 4750, 4700, 7125)  # a quarter of the sides
    _head((9400, 9500), box).save(tmp_path / "pictures" / "89.jpg", quality=95)
    Image.new("L", (10_000, 10_000)).save(tmp_path / "pictures" / "100.jpg")
    status, rows = _rows(command, tmp_path / "pictures", files, tmp_path / "rows.jsonl")
    assert status == 1 and [face["box"] for face in rows["89.jpg"]["faces"]] == [list(box)]
    assert "too large" in rows["100.jpg"]["error"] and "100000000 pixels" in rows["100.jpg"]["error"]


def _grid(count, side):
    """Returns the boxes of `count` squares of 16 pixels on a picture of `side` x `side`, two diagonals apart."""
    per_row = side // 24
    return [
        (24 * (n % per_row), 24 * (n // per_row), 24 * (n % per_row) + 16, 24 * (n // per_row) + 16)
        for n in range(count)
    ]


@pytest.mark.parametrize("command", ["find", "predict"])
def test_500_heads_on_a_picture(command, files, tmp_path):
    """All are found and named, in one row; a picture with one head beside it keeps its own."""
    (tmp_path / "pictures").mkdir()
    detector = write_blob_detector(tmp_path / "large.onnx", size=(640, 640))
    boxes = _grid(500, 640)
    draw_blobs((640, 640), boxes).save(tmp_path / "pictures" / "many.png")
    draw_blobs((640, 640), [(320, 320, 336, 336)]).save(tmp_path / "pictures" / "one.png")
    output = tmp_path / "rows.jsonl"
    _, rows = _rows(command, tmp_path / "pictures", (files[0], detector), output)
    assert sorted(tuple(face["box"]) for face in rows["many.png"]["faces"]) == sorted(boxes)
    assert [face["box"] for face in rows["one.png"]["faces"]] == [[320, 320, 336, 336]]
    confidences = [face["confidence"] for face in rows["many.png"]["faces"]]
    assert confidences == sorted(confidences, reverse=True)


@pytest.mark.parametrize("command", ["find", "predict"])
def test_boxes_over_the_edge_are_clipped_and_scores_that_are_no_numbers_are_left_out(command, files, tmp_path):
    (tmp_path / "pictures").mkdir()
    _head().save(tmp_path / "pictures" / "a.png")
    for score, boxes in ((np.nan, []), (np.inf, []), (1.0, [ON_THE_PICTURE])):
        detector = write_blob_detector(tmp_path / f"{score}.onnx", score=score)
        _, rows = _rows(command, tmp_path / "pictures", (files[0], detector), tmp_path / f"{score}.jsonl")
        assert [face["box"] for face in rows["a.png"]["faces"]] == boxes
    crossing = _crossing_detector(tmp_path / "crossing.onnx")
    _, rows = _rows(command, tmp_path / "pictures", (files[0], crossing), tmp_path / "crossing.jsonl")
    assert [face["box"] for face in rows["a.png"]["faces"]] == [[0, 0, 40, 20], [60, 70, 80, 80]]


def _crossing_detector(path):
    """Writes a detector with the same boxes on every picture: over two corners, outside, and with a NaN."""
    boxes = np.array([[0, 0, 64, 32], [64, 64, 32, 16], [200, 200, 10, 10], [np.nan, 3, 9, 9]], np.float32)
    output = np.concatenate([boxes, [[0.9], [0.8], [0.7], [0.6]]], axis=1).T[None].astype(np.float32)
    zero = helper.make_node("ReduceMax", ["images"], ["bright"], keepdims=0)
    nodes = [
        zero,
        helper.make_node("Mul", ["bright", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "boxes"], ["output0"]),
    ]
    constants = {"nothing": np.array(0, np.float32), "boxes": output}
    return write_model(path, nodes, constants, [1, 3, 64, 64], {"imgsz": "[64, 64]", "names": "{0: 'head'}"})
