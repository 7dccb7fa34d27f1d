"""Predicting many files: in batches of one size, in order, in bounded memory, into a file that can be gone on with."""

import csv
import hashlib
import itertools
import json
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
from PIL import Image

from animesion_jax.cli import predict as predict_command
from animesion_jax.inference import batches
from animesion_jax.inference.batches import BATCHES_AHEAD, apply_to_files
from animesion_jax.inference.recognizer import load
from animesion_jax.inference.result_file import UNFINISHED
from animesion_jax.inference.sort_images import UNKNOWN, copy_once, folder_name
from animesion_jax.main import INTERRUPTED, main
from tests.hostile_seeds import bundle_tree

DRAW = np.random.default_rng(3)
CALIBRATION = {
    "temperature": 1.0, "threshold": 0.6, "false_accept_rate": 0.1, "scale": 5.0, "offset": 0.0, "source": {}
}  # fmt: skip
NAMES = ("a b.png", 'it\'s "q",.png', "line\nend.png", "あ.png", "b.png", "broken.png", "c.png", "z.png")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of a small model with random weights that is sure of what it says, calibrated."""
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
    """A folder of images with odd names, one of which is no image."""
    folder = tmp_path_factory.mktemp("faces")
    for name in NAMES:
        Image.fromarray(DRAW.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def _predict(bundle, *arguments):
    return main(["animesion", "predict", f"--bundle={bundle}", *map(str, arguments)])


def test_batches_of_any_size_give_the_same_rows_and_one_program(bundle, faces):
    files = [faces / name for name in sorted(NAMES)]
    one_by_one = list(load(bundle, 1).predict_files(files))
    assert [row["path"] for row in one_by_one] == [str(file) for file in files]
    assert [name for name, row in zip(sorted(NAMES), one_by_one, strict=True) if "error" in row] == ["broken.png"]
    pixels = np.asarray(Image.open(files[0]).resize((16, 16), Image.Resampling.BILINEAR))
    assert len({row["predictions"][0]["probability"] for row in one_by_one if "error" not in row}) == 7
    assert load(bundle).predict(pixels)[0][0]["class"] == one_by_one[0]["predictions"][0]["class"]
    for batch_size in (3, 5, 32):
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


def test_no_more_files_are_read_than_the_batches_ahead(monkeypatch):
    """However many there are; and whoever stops early does not wait for the rest."""
    read = []
    monkeypatch.setattr(batches, "_decode", lambda file, size: read.append(file) or np.zeros((4, 4, 3), np.uint8))
    shapes = []

    def function(images):
        shapes.append(images.shape)
        return images.sum((1, 2, 3))

    rows = apply_to_files(function, [Path(str(number)) for number in range(100_000)], 4, 8)
    assert [str(file) for file, _ in itertools.islice(rows, 20)] == [str(number) for number in range(20)]
    rows.close()
    assert len(read) <= 8 * (BATCHES_AHEAD + 4) and set(shapes) == {(8, 4, 4, 3)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_stopped_file_is_gone_on_with_wherever_it_was_cut(bundle, faces, tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    assert _predict(bundle, f"--output={whole}", "--batch_size=3", faces) == 1
    content = whole.read_bytes()
    assert not list(tmp_path.glob(f"*{UNFINISHED}"))
    if suffix == "csv":
        with whole.open(newline="", encoding="utf-8") as stream:
            paths = [line["path"] for line in csv.DictReader(stream)]
    else:
        paths = [json.loads(line)["path"] for line in whole.read_text("utf-8").splitlines()]
    assert [Path(path).name for path, _ in itertools.groupby(paths)] == sorted(NAMES)
    cut = tmp_path / f"cut.{suffix}"
    for length in {0, 5, len(content) // 3, len(content) // 2, len(content) - 40, len(content) - 1, len(content)}:
        cut.write_bytes(content[:length])
        (tmp_path / f"{cut.name}{UNFINISHED}").write_text(json.dumps(_settings(bundle)))
        _predict(bundle, f"--output={cut}", "--batch_size=3", faces)
        assert cut.read_bytes() == content, length
        assert not list(tmp_path.glob(f"*{UNFINISHED}"))


def test_what_is_interrupted_says_how_it_goes_on(bundle, faces, tmp_path, monkeypatch, caplog):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    _predict(bundle, f"--output={whole}", "--batch_size=3", faces)

    def interrupted(rows):
        yield from itertools.islice(rows, 5)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        counted = predict_command._counted
        patched.setattr(predict_command, "_counted", lambda *arguments: interrupted(counted(*arguments)))
        assert _predict(bundle, f"--output={parts}", "--batch_size=3", faces) == INTERRUPTED
    told = f"{parts} keeps what is done; the same command goes on from there"
    assert told in caplog.text and 0 < len(parts.read_bytes()) < len(whole.read_bytes())
    _predict(bundle, f"--output={parts}", "--batch_size=3", faces)
    assert parts.read_bytes() == whole.read_bytes()


def _settings(bundle):
    """Returns what stands beside a file of predictions while it is not whole."""
    return {"bundle": hashlib.sha256(Path(bundle).read_bytes()).hexdigest(), "--top_k": 5}


def test_files_of_something_else_are_not_gone_on_with(bundle, faces, tmp_path, capsys):
    output = tmp_path / "out.csv"
    assert _predict(bundle, f"--output={output}", faces) == 1
    written = output.read_bytes()
    capsys.readouterr()
    for arguments, words in [
        ([f"--output={output}"], ["out.csv", "whole", "another name"]),
        ([f"--output={tmp_path / 'out.txt'}"], ["out.txt", "*.csv", "*.jsonl"]),
        ([f"--output={output}", "--format=csv"], ["--format=csv", "give one"]),
        ([f"--copy_to={faces / 'sorted'}"], ["sorted", "is inside", "elsewhere"]),
    ]:
        assert _predict(bundle, *arguments, faces) == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert all(word in message for word in words), message
    for changed in ({"--top_k": 1}, {"bundle": "another"}):
        (tmp_path / f"out.csv{UNFINISHED}").write_text(json.dumps(_settings(bundle) | changed))
        capsys.readouterr()
        assert _predict(bundle, f"--output={output}", faces) == 2
        assert f"another {next(iter(changed))}" in capsys.readouterr().err
    assert output.read_bytes() == written


def test_images_are_sorted_into_a_folder_per_character(bundle, faces, tmp_path):
    output, folder = tmp_path / "out.jsonl", tmp_path / "sorted"
    assert _predict(bundle, f"--output={output}", f"--copy_to={folder}", faces) == 1
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
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


def test_different_images_of_one_name_are_all_kept(tmp_path):
    for number, content in enumerate((b"one", b"two", b"one", b"three")):
        image = tmp_path / str(number) / "face.png"
        image.parent.mkdir()
        image.write_bytes(content)
        copy_once(image, tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        "face.png": b"one",
        "face (2).png": b"two",
        "face (3).png": b"three",
    }


def test_folder_names_stay_in_the_folder_and_apart():
    names = ["..", ".", "a/b", "a%2Fb", "a\\b", "C:", "", "%", "con\0", "yui ", "あかり", "a.b", "Fate/stay night"]
    names += [UNKNOWN, "%75nknown", "Unknown"]
    folders = [folder_name(name) for name in names]
    assert len({folder.lower() for folder in [*folders, UNKNOWN]}) == len(names) + 1
    assert not any(set(folder) & set('/\\:*?"<>|\0') or folder.startswith(".") for folder in folders)
    assert folder_name("あかり") == "あかり" and folder_name("a.b") == "a.b"
