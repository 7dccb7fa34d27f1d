"""Predictions of many files: order, bounded memory, and output files that a second start completes."""

import csv
import io
import itertools
import json
import sys
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
from PIL import Image

from animesion_jax.cli import predict as predict_command
from animesion_jax.inference import batches
from animesion_jax.inference.batches import BATCHES_AHEAD, apply_to_files
from animesion_jax.inference.recognizer import load
from animesion_jax.inference.writers import write_table
from animesion_jax.main import INTERRUPTED, main
from tests.hostile_seeds import CALIBRATION, bundle_tree

DRAW = np.random.default_rng(3)
NAMES = (
    "a b.png", 'it\'s "q",.png', "line\nend.png", "car\rriage.png", "next\u2028line.png", "あ.png", "b.png",
    "broken.png", "c.png", "z.png",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A calibrated bundle of a small model with random weights and high confidences."""
    tree = bundle_tree() | {"calibration": CALIBRATION}
    kernel = DRAW.normal(size=tree["variables"]["params"]["head"]["kernel"].shape)
    tree["variables"]["params"]["head"]["kernel"] = np.float32(0.3 * kernel)
    for name, layer in tree["variables"]["params"].items():
        if name != "head" and "kernel" in layer:
            layer["kernel"] = np.float32(0.1 * DRAW.normal(size=layer["kernel"].shape))
        if "scale" in layer:
            layer["scale"] = np.ones_like(layer["scale"])
    for layer in tree["variables"]["batch_stats"].values():
        layer["var"] = np.ones_like(layer["var"])
    path = tmp_path_factory.mktemp("bundle") / "b.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return str(path)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder of images with odd names, and a file that is not an image."""
    folder = tmp_path_factory.mktemp("faces")
    for name in NAMES:
        Image.fromarray(DRAW.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def _predict(bundle, *arguments):
    return main(["animesion", "predict", f"--bundle={bundle}", *map(str, arguments)])


def test_predict_files_gives_the_same_rows_for_any_batch_size_and_compiles_once(bundle, faces):
    files = [faces / name for name in sorted(NAMES)]
    one_by_one = list(load(bundle, 1).predict_files(files))
    assert [row["path"] for row in one_by_one] == [str(file) for file in files]
    assert [name for name, row in zip(sorted(NAMES), one_by_one, strict=True) if "error" in row] == ["broken.png"]
    pixels = np.asarray(Image.open(files[0]).resize((16, 16), Image.Resampling.BILINEAR))
    assert len({row["predictions"][0]["probability"] for row in one_by_one if "error" not in row}) == len(NAMES) - 1
    assert load(bundle).predict(pixels)[0][0]["class"] == one_by_one[0]["predictions"][0]["class"]
    for batch_size in (3, 32):
        recognizer = load(bundle, batch_size)
        for alone, row in zip(one_by_one, recognizer.predict_files(files), strict=True):
            assert alone.keys() == row.keys() and alone["path"] == row["path"]
            if "error" not in row:
                assert [each["class"] for each in row["predictions"]] == [
                    each["class"] for each in alone["predictions"]
                ]
                assert row["predictions"][0]["probability"] == pytest.approx(
                    alone["predictions"][0]["probability"], abs=1e-5
                )
        assert recognizer._probabilities._cache_size() == 1


def _table(rows, names, files=None):
    """Returns the lines that `write_table` writes; a row is (path, unknown, predictions) or (path, error)."""
    stream = io.StringIO()
    keys = [("path", "error") if len(row) == 2 else ("path", "unknown", "predictions") for row in rows]
    described = [dict(zip(each, row, strict=True)) for each, row in zip(keys, rows, strict=True)]
    write_table(described, stream, files or [Path(row[0]) for row in rows], names)
    return stream.getvalue().splitlines()


def _ranked(**probabilities):
    return [{"class": name, "probability": share} for name, share in probabilities.items()]


def test_table_has_a_column_for_file_character_probability_and_runners_up():
    rows = [
        ("a.png", False, _ranked(yui=0.9876, アキラ=0.01)),
        ("あ.png", True, _ranked(アキラ=0.4, yui=0.3)),
        ("b.png", True, _ranked(yui=0.4)),
        ("line\nend", None, _ranked(アキラ=1.0)),
        ("broken.jpg", "not an image"),
    ]
    assert _table(rows, ["yui", "アキラ"]) == [
        "file        character  probability  next likeliest",
        "a.png       yui              98.8%  アキラ 1.0%",
        "あ.png      unknown                 アキラ 40.0%",
        "b.png       unknown                 yui 40.0%",
        "line\\nend   アキラ          100.0%",
        "broken.jpg  error                   not an image",
    ]


def test_table_of_long_names_fits_the_longest_file_and_24_columns_of_names():
    rows = [("a.png", False, _ranked(**{"x" * 40: 0.5, "y": 0.4})), ("a.png", False, _ranked(y=0.5))]
    assert _table(rows, ["x" * 40, "y"], [Path("folder/a.png")])[1:] == [
        f"a.png         {'x' * 40}        50.0%  y 40.0%",
        f"a.png         y{' ' * 23}        50.0%",
    ]


def test_predict_ends_the_table_with_the_number_of_images_by_result(bundle, faces, capsys):
    assert _predict(bundle, "--top_k=2", faces) == 1
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "character", "probability", "next", "likeliest"]
    unknown = sum(" unknown  " in line for line in lines)
    assert 0 < unknown < 9 and len(lines) == 10
    assert last == f"10 images: {9 - unknown} named, {unknown} unknown, 1 with an error"
    assert _predict(bundle, faces / "b.png", f"--copy_to={faces.parent / 'sorted'}") == 0
    assert capsys.readouterr().out.splitlines()[-1] in ("1 image: 1 named", "1 image: 1 unknown")


def test_progress_bar_is_hidden_where_the_rows_go_to_a_terminal(bundle, faces, tmp_path, capsys, monkeypatch):
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    for arguments, shown in (([], False), ([f"--output={tmp_path / 'a.csv'}"], True)):
        assert _predict(bundle, faces / "b.png", *arguments) == 0
        assert ("predicting" in capsys.readouterr().err) is shown


def test_apply_to_files_reads_only_a_few_batches_ahead(monkeypatch):
    read = []
    monkeypatch.setattr(batches, "read_image", lambda file: read.append(file) or Image.new("RGB", (4, 4)))
    shapes = []

    def function(images):
        shapes.append(images.shape)
        return images.sum((1, 2, 3))

    rows = apply_to_files(function, [Path(str(number)) for number in range(100_000)], 4, "squash", 8)
    assert [str(file) for file, _ in itertools.islice(rows, 20)] == [str(number) for number in range(20)]
    rows.close()
    assert len(read) <= 8 * (BATCHES_AHEAD + 4) and set(shapes) == {(8, 4, 4, 3)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_output_is_completed_wherever_it_was_cut(bundle, faces, tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    assert _predict(bundle, f"--output={whole}", "--batch_size=3", faces) == 1
    content = whole.read_bytes()
    assert [Path(path).name for path in _paths(whole)] == sorted(NAMES)
    cut = tmp_path / f"cut.{suffix}"
    for length in (0, len(content) // 2, len(content) - 3):
        cut.write_bytes(content[:length])
        _predict(bundle, f"--output={cut}", "--batch_size=3", faces)
        assert cut.read_bytes() == content, length
    assert sorted(path.name for path in tmp_path.iterdir()) == [cut.name, whole.name]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_output_that_has_images_already_gets_only_the_others(bundle, faces, tmp_path, suffix, caplog):
    output, first = tmp_path / f"out.{suffix}", [faces / "b.png", faces / "broken.png", faces / "a b.png"]
    _predict(bundle, f"--output={output}", "--top_k=2", *first)
    before = output.read_bytes()
    assert _predict(bundle, f"--output={output}", "--top_k=2", *first) == 0
    assert output.read_bytes() == before and f"{output} already has all images" in caplog.text
    _predict(bundle, f"--output={output}", "--top_k=2", faces / "c.png")
    assert output.read_bytes().startswith(before)
    _predict(bundle, f"--output={output}", "--top_k=2", faces)
    others = [name for name in sorted(NAMES) if name not in ("a b.png", "b.png", "broken.png", "c.png")]
    assert [Path(path).name for path in _paths(output)] == ["b.png", "broken.png", "a b.png", "c.png", *others]


def _paths(output):
    """Returns the images of a file of predictions in order, without the repetitions of CSV."""
    if output.suffix == ".csv":
        with output.open(newline="", encoding="utf-8") as stream:
            paths = [line["path"] for line in csv.DictReader(stream)]
    else:
        paths = [json.loads(line)["path"] for line in output.read_bytes().split(b"\n")[:-1]]
    return [path for path, _ in itertools.groupby(paths)]


def test_predict_interrupted_says_how_to_complete_its_output(bundle, faces, tmp_path, monkeypatch, caplog):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    _predict(bundle, f"--output={whole}", "--batch_size=3", faces)

    def interrupted(rows):
        yield from itertools.islice(rows, 5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        counted = predict_command._counted
        patched.setattr(predict_command, "_counted", lambda *arguments: interrupted(counted(*arguments)))
        assert _predict(bundle, f"--output={parts}", "--batch_size=3", faces) == INTERRUPTED
    expected = f"{parts} has the rows written so far; run the same command again to add the others"
    assert expected in caplog.text and 0 < len(parts.read_bytes()) < len(whole.read_bytes())
    _predict(bundle, f"--output={parts}", "--batch_size=3", faces)
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.csv", b"path,label\na.png,0\n"),
        ("mine.csv", b"path,rank,class,class_id,probability,unknown,error\na.png,1\n\n"),
        ("mine.jsonl", b'{"image": "a.png"}'),
        ("mine.jsonl", b'{"path": 5}\n'),
        ("mine.jsonl", b"\xff"),
    ],
)
def test_predict_leaves_files_without_predictions_unchanged(bundle, faces, tmp_path, capsys, name, content):
    output = tmp_path / name
    output.write_bytes(content)
    assert _predict(bundle, f"--output={output}", faces) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"--output={output} does not hold predictions" in message and "allowed: a new name" in message
    assert output.read_bytes() == content


def test_predict_refuses_flags_that_do_not_fit_together(bundle, faces, tmp_path, capsys):
    (tmp_path / "folder.csv").mkdir()
    for arguments, words in [
        ([f"--output={tmp_path / 'out.txt'}"], ["out.txt", "*.csv", "*.jsonl"]),
        ([f"--output={tmp_path / 'folder.csv'}"], ["folder.csv", "a file named *.csv"]),
        ([f"--output={tmp_path / 'out.csv'}", "--format=csv"], ["--format=csv", "give one"]),
        ([f"--copy_to={faces / 'sorted'}"], ["sorted", "is inside", "outside it"]),
    ]:
        assert _predict(bundle, *arguments, faces) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert all(word in message for word in words), message
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_predict_copies_images_into_a_folder_per_character(bundle, faces, tmp_path):
    output, folder = tmp_path / "out.jsonl", tmp_path / "sorted"
    assert _predict(bundle, f"--output={output}", f"--copy_to={folder}", faces) == 1
    rows = [json.loads(line) for line in output.read_bytes().split(b"\n")[:-1]]
    expected = {
        (folder / ("unknown" if row["unknown"] else row["predictions"][0]["class"]) / Path(row["path"]).name): row[
            "path"
        ]
        for row in rows
        if "error" not in row
    }
    assert {file for file in folder.rglob("*") if file.is_file()} == set(expected)
    assert all(copy.read_bytes() == Path(image).read_bytes() for copy, image in expected.items())
    assert {row["unknown"] for row in rows if "error" not in row} == {True, False}
    output.unlink()
    _predict(bundle, f"--output={output}", f"--copy_to={folder}", faces)
    assert len([file for file in folder.rglob("*") if file.is_file()]) == len(expected)
