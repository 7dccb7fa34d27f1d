"""Metrics of a bundle on folders, compared with `evaluate` of its run, `predict` and values worked out by hand."""

import csv
import dataclasses
import json
import math
import shlex
import shutil
import unicodedata
from pathlib import Path

import flax.serialization
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.bundle import extend_bundle
from animesion_jax.data.datasets import load_dataset
from animesion_jax.inference import evaluate as evaluate_module
from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from animesion_jax.training.evaluate import evaluate as evaluate_run
from tests.hostile_seeds import CALIBRATION, bundle_tree


@pytest.fixture(scope="module")
def test_faces(toyfaces_dir, tmp_path_factory):
    """The test split of toyfaces as PNG files in a folder per character."""
    folder = tmp_path_factory.mktemp("faces")
    builder = load_dataset("toyfaces", str(toyfaces_dir)).builder
    names = builder.info.features["label"].names
    for record in builder.as_dataset("test", decoders={"image": tfds.decode.SkipDecoding()}).as_numpy_iterator():
        path = folder / names[record["label"]] / Path(record["filename"].decode()).name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(record["image"])
    return folder


def _evaluate(capsys, bundle, *arguments, status=0):
    """Returns the printed JSON."""
    assert main(["animesion", "evaluate", f"--bundle={bundle}", *map(str, arguments)]) == status
    return json.loads(capsys.readouterr().out)


def _line(capsys, *arguments):
    """Returns the message of a refused command."""
    assert main(["animesion", "evaluate", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_evaluate_of_a_bundle_equals_that_of_its_run(trained, bundle_path, test_faces, tmp_path, capsys):
    of_run = evaluate_run(str(trained[0]), "test", per_class=True, output=str(tmp_path / "run.csv"))
    result = _evaluate(capsys, bundle_path, test_faces, "--per_class", f"--output={tmp_path / 'new' / 'bundle.csv'}")
    same = ("examples", "top1_accuracy", "top5_accuracy", "macro_accuracy")
    assert {name: result[name] for name in same} == {name: of_run[name] for name in same}
    assert result == {name: of_run[name] for name in same} | {
        "folder": str(test_faces), "loss": pytest.approx(of_run["loss"], rel=1e-5), "false_reject_rate": None,
        "unknown_characters": {}, "false_accept_rate": None, "unreadable": 0,
        "per_class": str(tmp_path / "new" / "bundle.csv"),
    }  # fmt: skip
    rows, rows_of_run = (list(csv.DictReader((tmp_path / name).open())) for name in ("new/bundle.csv", "run.csv"))
    assert len(rows) == 20 and rows == [row | {"train_images": ""} for row in rows_of_run]


def test_rates_and_loss_agree_with_predict(calibrated, test_faces, tmp_path, capsys, caplog):
    """Two characters, and five whose folders are misspelt; the threshold is such that some of either are rejected."""
    names = sorted(path.name for path in test_faces.iterdir())[:7]
    misspelt = {f"{name}x": name for name in names[2:]}
    folders = {name: name for name in names[:2]} | misspelt
    (tmp_path / "faces").mkdir()
    for folder, name in folders.items():
        (tmp_path / "faces" / folder).symlink_to(test_faces / name)
    files = [file for folder in folders for file in (tmp_path / "faces" / folder).iterdir()]
    recognizer = load(str(calibrated[0]))
    likeliest = [row["predictions"][0]["probability"] for row in recognizer.predict_files(files, top_k=1)]
    calibration = dataclasses.asdict(recognizer.bundle.calibration) | {"threshold": float(np.median(likeliest))}
    bundle = str(extend_bundle(str(calibrated[0]), str(tmp_path / "median.msgpack"), calibration=calibration))
    result = _evaluate(capsys, bundle, tmp_path / "faces")
    unknown, strangers, losses = [], [], []
    for row in load(bundle).predict_files(files, top_k=20):
        folder = Path(row["path"]).parent.name
        (strangers if folder in misspelt else unknown).append(row["unknown"])
        losses += [-math.log(each["probability"]) for each in row["predictions"] if each["class"] == folder]
    assert 0 < sum(unknown) < len(unknown) == result["examples"] and 0 < sum(strangers) < len(strangers)
    assert result["false_reject_rate"] == pytest.approx(np.mean(unknown))
    assert result["false_accept_rate"] == pytest.approx(1 - np.mean(strangers))
    assert result["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert result["unknown_characters"] == {
        folder: len(list((test_faces / name).iterdir())) for folder, name in misspelt.items()
    }
    images = result["unknown_characters"][f"{names[2]}x"]
    assert f"'{names[2]}x' (images: {images}, did you mean {names[2]}?)" in caplog.text


@pytest.fixture
def folder(tmp_path):
    """Images in folders: 3 of yui, one of them unreadable, 2 of あかり, 1 of an enrolled character, 2 of a stranger."""
    root = tmp_path / "faces"
    names = {"YUI": 3, "あかり": 2, unicodedata.normalize("NFD", "Re%3Aガール"): 1, "nobody": 2, ".hidden": 1}
    for name, count in names.items():
        for i in range(count):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 7), "pink").save(root / name / f"{i}.png")
    (root / "YUI" / "2.png").write_text("no image")
    Image.new("RGB", (9, 7)).save(root / "loose.png")
    return root


def _bundle(path, threshold=None):
    """Writes a bundle that gives each image 0.6 for yui and 0.2 each for あかり and the enrolled Re:ガール.

    Without a threshold it has no calibration: 0.9 and 0.1.
    """
    tree = bundle_tree()
    tree["variables"]["params"]["head"]["bias"][0] = math.log(9)
    if threshold:
        tree["calibration"] = CALIBRATION | {"temperature": 2.0, "threshold": threshold}
        tree["enrolled"] = {"names": ["Re:ガール"], "embeddings": np.eye(1, 512, dtype=np.float32), "counts": [1]}
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


@pytest.mark.parametrize(("threshold", "rejected"), [(0.59, 0.0), (0.61, 1.0)])
def test_metrics_equal_values_worked_out_by_hand(threshold, rejected, folder, tmp_path, capsys, caplog, monkeypatch):
    """In three batches, the last of which is padded."""
    monkeypatch.setattr(evaluate_module, "BATCH_SIZE", 3)
    bundle, output = _bundle(tmp_path / "b.msgpack", threshold), tmp_path / "classes.csv"
    assert _evaluate(capsys, bundle, folder, "--per_class", f"--output={output}", status=1) == {
        "folder": str(folder), "examples": 5, "loss": pytest.approx(-(2 * math.log(0.6) + 3 * math.log(0.2)) / 5),
        "top1_accuracy": 0.4, "top5_accuracy": 1.0, "false_reject_rate": rejected, "unknown_characters": {"nobody": 2},
        "false_accept_rate": 1 - rejected, "unreadable": 1, "macro_accuracy": pytest.approx(1 / 3),
        "per_class": str(output),
    }  # fmt: skip
    assert output.read_text().splitlines()[1:] == [
        "0,yui,,2,1.0,1.0,,", "1,あかり,,2,0.0,1.0,yui,2", "2,Re:ガール,,1,0.0,1.0,yui,1",
    ]  # fmt: skip
    assert f"{folder / 'YUI' / '2.png'} is left out: not a readable image" in caplog.text
    assert "left out: hidden or system 1" in caplog.text
    assert "left out: 1 images that are in no character's folder, such as loose.png" in caplog.text
    assert "in the bundle count as unknown characters: 'nobody' (images: 2)" in caplog.text


def test_without_a_calibration_no_image_is_unknown(folder, tmp_path, capsys, caplog):
    result = _evaluate(capsys, _bundle(tmp_path / "b.msgpack"), folder, status=1)
    assert result["loss"] == pytest.approx(-math.log(0.9 * 0.1) / 2)
    assert (result["examples"], result["false_reject_rate"], result["false_accept_rate"]) == (4, None, None)
    assert set(result["unknown_characters"]) == {"nobody", unicodedata.normalize("NFD", "Re%3Aガール")}
    assert "are left out, since the bundle has no calibration: " in caplog.text


def test_refuses_folders_without_images_of_known_characters(tmp_path, capsys):
    bundle, root = _bundle(tmp_path / "b.msgpack", 0.5), tmp_path / "it's [mine]"
    (root / "empty").mkdir(parents=True)
    flags = [f"--bundle={bundle}", root]
    assert f"{root} has no images in folders of characters; allowed: files of AVIF" in _line(capsys, *flags)
    (root / "empty" / "a.txt").write_text("no image")
    assert "folders of characters (left out: .txt 1); allowed" in _line(capsys, *flags)
    (root / "empty" / "a.txt").rename(root / "empty" / "a.png")
    (root / "empty").rename(root / "yuu")
    assert _line(capsys, *flags).endswith("'yuu' (images: 1, did you mean yui?); allowed: yui, あかり, Re:ガール")
    (root / "yuu" / "あかり").mkdir()
    (root / "yuu" / "a.png").rename(root / "yuu" / "あかり" / "a.png")
    assert _line(capsys, *flags).endswith(f"; {root / 'yuu'} has such folders; give that folder")
    (root / "yuu" / "あかり").rename(root / "yuu" / "inner")
    (root / "yuu").rename(root / "yui")
    assert main(["animesion", "evaluate", *map(str, flags)]) == 2
    assert "no image of a known character can be read" in capsys.readouterr().err
    for split in ("Train", "val"):
        (root / split / "yui").mkdir(parents=True)
        Image.new("RGB", (9, 7)).save(root / split / "yui" / "a.png")
    shutil.rmtree(root / "yui")
    message = _line(capsys, *flags)
    assert "has the splits Train, val; give one of them" in message
    assert message.endswith(f"evaluate --bundle={bundle} {shlex.quote(str(root / 'val'))}")
    assert "holds no folder" in _line(capsys, f"--bundle={bundle}", root / "val" / "yui")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--workdir --bundle is required"),
        (["--bundle=b", "--workdir=w", "faces"], "not allowed with"),
        (["--bundle=b"], "--bundle=b needs FOLDER"),
        (["--workdir=w", "faces"], "faces is for --bundle"),
        (["--bundle=b", "faces", "--split=test"], "--split=test is for --workdir"),
        (["--bundle=b", "faces", "--weights=last"], "--weights=last is for --workdir"),
        (["--bundle=b", "faces", "--data_dir=d"], "--data_dir=d is for --workdir"),
        (["--bundle=b", "faces", "--distributed"], "--distributed is for --workdir"),
        (["--bundle=b", "faces", "--process_id=1"], "--process_id is for --distributed"),
        (["--bundle=b", "faces", "--per_class"], "--per_class with --bundle needs --output"),
        (["--bundle=b", "faces", "--per_class", "--output=."], "per_class.csv"),
        (["--bundle=b", "faces"], "faces is not a folder"),
        (["--bundle=b", "a", "b"], "b"),
    ],
)
def test_invalid_combinations_of_flags_are_refused_in_one_line(arguments, words, capsys):
    assert words in _line(capsys, *arguments)


def test_match_names_prefers_the_same_name_and_takes_no_ambiguous_one():
    names = ("Saber", "saber", "é", "É", "Miku", "a:", "a%3A", "unknown", "ｱｲ")
    expected = {
        "Saber": 0, "saber": 1, "e\u0301": 2, "E\u0301": 3, "MIKU": 4, "a%3A": 6, "a%253A": 6, "unknown": 7,
        "%75nknown": 7, "アイ": 8,
    }  # fmt: skip
    assert evaluate_module.match_names(["SABER", "mik", *expected], names) == expected
