"""Predictions of a bundle: against evaluate, in Python and on the command line, for any file name."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import animesion_jax
from animesion_jax.bundle import load_bundle
from animesion_jax.data.datasets import load_dataset
from animesion_jax.main import main
from animesion_jax.training.evaluate import evaluate
from tests.conftest import ROOT
from tests.hostile_seeds import bundle_tree


@pytest.fixture(scope="module")
def test_faces(toyfaces_dir, tmp_path_factory):
    """A folder with the test split's files and the class id of each."""
    folder = tmp_path_factory.mktemp("faces")
    builder = load_dataset("toyfaces", str(toyfaces_dir)).builder
    labels = {}
    for record in builder.as_dataset("test", decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator():
        path = folder / record["filename"].decode().replace("/", " é'")
        path.write_bytes(record["image"])
        labels[str(path)] = int(record["label"])
    return folder, labels


def test_predict_agrees_with_evaluate_on_the_test_split(trained, bundle_path, test_faces, capsys):
    folder, labels = test_faces
    assert main(["animesion", "predict", f"--bundle={bundle_path}", "--format=json", str(folder)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in rows] == sorted(labels)
    correct = [row["predictions"][0]["class_id"] == labels[row["path"]] for row in rows]
    assert np.mean(correct) == pytest.approx(evaluate(str(trained[0]), "test")["top1_accuracy"], abs=1e-9)
    names = load_bundle(str(bundle_path)).classes
    for row in rows[:5]:
        each = row["predictions"]
        assert [p["class"] for p in each] == [names[p["class_id"]] for p in each]
        assert sorted((p["probability"] for p in each), reverse=True) == [p["probability"] for p in each]


def test_predict_reports_unreadable_images_and_names_the_others(bundle_path, test_faces, tmp_path, capsys):
    good = sorted(test_faces[1])[0]
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(Path(good).read_bytes()[:900])
    arguments = [str(tmp_path), good, str(tmp_path / "absent.png")]
    assert main(["animesion", "predict", f"--bundle={bundle_path}", "--format=json", *arguments]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert ["error" in row for row in rows] == [True, True, True, False, True]
    assert all(set(row) == {"path", "error"} for row in rows if "error" in row)
    assert main(["animesion", "predict", f"--bundle={bundle_path}", "--format=csv", "--top_k=2", good]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["rank"] for line in lines] == ["1", "2"] and lines[0]["path"] == good
    assert main(["animesion", "predict", f"--bundle={bundle_path}", good]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(good)


def test_recognizer_takes_paths_content_images_and_arrays(bundle_path, test_faces):
    recognizer = animesion_jax.load(str(bundle_path))
    path = sorted(test_faces[1])[0]
    image = Image.open(path)
    data = Path(path).read_bytes()
    alike = [path, Path(path), data, io.BytesIO(data), image, np.asarray(image)]
    results = recognizer.predict(alike, top_k=3)
    assert results == [results[0]] * 6 and len(results[0]) == 3
    assert recognizer.predict(data, 3) == recognizer.predict(io.BytesIO(data), 3) == results[:1]
    assert len(recognizer.predict(image.convert("CMYK"), top_k=99)[0]) == 20


def test_bundle_is_readable_with_flax_alone(bundle_path):
    tree = flax.serialization.msgpack_restore(bundle_path.read_bytes())
    assert (tree["format"], tree["version"], tree["model"]["name"]) == ("animesion", 1, "shallownet")
    assert tree["preprocessing"]["mean"] == [0.5, 0.5, 0.5] and len(tree["classes"]) == 20
    assert tree["training"]["dataset"] == "toyfaces" and 0 < tree["training"]["metrics"]["top1_accuracy"] <= 1
    assert tree["variables"]["params"]["head"]["kernel"].shape == (512, 20)


# Spaces, quotes, brackets, a line end, a terminal escape, wide letters, and a name that looks like a flag.
ODD_NAMES = [
    "a b.png", "it's \"q\".png", "[x]*?.png", "line\nend.png", "\x1b[31mred.png", "あ\u3000い.png", "-d.png", "é,;.png"
]  # fmt: skip


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory):
    """A folder with images of odd names, and a bundle beside it that knows two characters."""
    root = tmp_path_factory.mktemp("odd names 'é'")
    (root / "faces").mkdir()
    for name in ODD_NAMES:
        Image.new("RGB", (20, 20), "pink").save(root / "faces" / name)
    (root / "b undle.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    return root


def _predict(root, form, **environment):
    command = [sys.executable, "-m", "animesion_jax.main", "predict", f"--format={form}", "--top_k=1"]
    command += ["--bundle", root / "b undle.msgpack", root / "faces"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    result = subprocess.run(command, capture_output=True, cwd=ROOT, env=kept | environment)
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout


def test_predict_takes_files_of_any_name_in_any_locale(odd_files):
    expected = sorted(str(odd_files / "faces" / name) for name in ODD_NAMES)
    rows = json.loads(_predict(odd_files, "json", LANG="C").decode())
    assert [row["path"] for row in rows] == expected
    assert {row["predictions"][0]["class"] for row in rows} == {"yui"}
    written = _predict(odd_files, "csv", LANG="C.UTF-8", PYTHONIOENCODING="utf-8:strict").decode()
    assert [line["path"] for line in csv.DictReader(io.StringIO(written, newline=""))] == expected


def test_predict_escapes_letters_outside_the_output_encoding(odd_files, tmp_path):
    """A name that is not UTF-8, and letters that Latin-1 lacks: JSON keeps the names, the table stays aligned."""
    (tmp_path / "faces").mkdir()
    for name in (b"bad\xff.png", "あ.png".encode(), b"line\nend.png"):
        os.link(odd_files / "faces" / "a b.png", os.fsencode(tmp_path / "faces") + b"/" + name)
    (tmp_path / "b undle.msgpack").symlink_to(odd_files / "b undle.msgpack")
    rows = json.loads(_predict(tmp_path, "json", LANG="C.UTF-8", PYTHONIOENCODING="latin-1:strict").decode())
    assert [Path(row["path"]).name for row in rows] == ["bad\udcff.png", "line\nend.png", "あ.png"]
    table = _predict(tmp_path, "table", LANG="C.UTF-8", PYTHONIOENCODING="utf-8:strict").decode().splitlines()
    folder = tmp_path / "faces"
    assert table[1:-1] == [
        f"{folder}/bad\\udcff.png  yui              50.0%",
        f"{folder}/line\\nend.png  yui              50.0%",
        f"{folder}/あ.png         yui              50.0%",
    ]


@pytest.mark.parametrize(
    "words",
    [
        "predict --output=gs://b/names.csv",
        "predict --copy_to=gs://b/sorted",
        "predict --sidecar --sidecar_to=gs://b/tags",
        "embed --output=gs://b/faces.npz",
        "explain --output=gs://b/maps",
    ],
)
def test_outputs_that_must_be_local_refuse_addresses(words, bundle_path, test_faces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    face = sorted(test_faces[1])[0]
    assert main(["animesion", *words.split(), f"--bundle={bundle_path}", face]) == 2
    assert " is not a local path; write a local file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
