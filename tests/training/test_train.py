import hashlib
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.export.run_to_bundle import export
from animesion_jax.hub import Fetched
from animesion_jax.models import abstract_variables
from animesion_jax.training.evaluate import evaluate
from animesion_jax.training.train import train
from animesion_jax.workdir import run
from animesion_jax.workdir.checkpoints import Checkpoints
from animesion_jax.workdir.names import WEIGHTS
from animesion_jax.workdir.rows import read_rows


def test_train_writes_the_documented_files_and_rows(trained):
    workdir, results = trained
    names = {path.name for path in workdir.iterdir()}
    assert names >= {
        "config.json", "classes.json", "origin.json", "metrics.jsonl", "curves.png", "results.json", "tensorboard"
    }  # fmt: skip
    assert json.loads((workdir / "results.json").read_text()) == results
    assert set(results) == {"last", "best"}
    rows = read_rows(str(workdir))
    validation = [row for row in rows if row["split"] == "validation"]
    assert [row["epoch"] for row in validation] == [1, 2, 3]
    best = max(validation, key=lambda row: (row["top1_accuracy"], row["step"]))
    assert results["best"]["step"] == best["step"]
    assert results["last"]["step"] == validation[-1]["step"] == 3 * (1411 // 64)
    train_rows = [row for row in rows if row["split"] == "train"]
    assert train_rows[-1]["loss"] < train_rows[0]["loss"]
    with Image.open(workdir / "curves.png") as curves:
        assert curves.size[0] > 1000


@pytest.mark.parametrize("weights", ["last", "best"])
def test_evaluate_equals_the_test_metrics_of_training(trained, weights):
    workdir, results = trained
    again = evaluate(str(workdir), "test", weights)
    assert again["examples"] == results[weights]["examples"] == 420
    for name in ("loss", "top1_accuracy", "top5_accuracy"):
        assert again[name] == pytest.approx(results[weights][name], rel=1e-6)


@pytest.mark.slow
def test_faithful_run_trains_in_evaluation_mode_from_the_second_epoch(toy_config, tmp_path):
    toy_config.eval_mode_after_epochs, toy_config.default_weights = 1, "last"
    train(toy_config, str(tmp_path / "run"), jax.devices()[:1])
    checkpoints = Checkpoints(str(tmp_path / "run"), read_only=True)
    last = checkpoints.step_of("last")
    saved = run.load(str(tmp_path / "run"))
    assert saved.step == last
    like = {WEIGHTS: abstract_variables(saved.model, toy_config.image_size)}
    one, two = (checkpoints.restore(step, like)[WEIGHTS] for step in (last // 2, last))
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, one["batch_stats"], two["batch_stats"])
    assert not np.array_equal(one["params"]["head"]["kernel"], two["params"]["head"]["kernel"])
    assert not np.array_equal(one["batch_stats"]["BatchNorm_0"]["mean"], np.zeros(16))
    assert evaluate(str(tmp_path / "run"), "validation")["weights"] == "last"


def test_pretrained_run_starts_from_the_bundle_and_resumes_without_it(
    toy_config, bundle_path, tmp_path, capsys, monkeypatch
):
    start = load_bundle(str(bundle_path))
    weights = shutil.copy(bundle_path, tmp_path / "start.msgpack")
    origin = {"address": "hf://me/toy", "file": "start.msgpack", "revision": "0" * 40}
    monkeypatch.setattr("animesion_jax.hub.fetch", lambda address, endings: Fetched(weights, origin))
    toy_config.image_size, toy_config.epochs = 32, 1
    toy_config.pretrained, toy_config.trainable = "hf://me/toy", "head"
    train(toy_config, str(tmp_path / "run"), jax.devices()[:1])
    assert "loaded" in capsys.readouterr().err
    weights.unlink()
    toy_config.epochs = 2
    results = train(toy_config, str(tmp_path / "run"), jax.devices()[:1])
    tuned = load_bundle(str(export(str(tmp_path / "run"), str(tmp_path / "tuned.msgpack"), "last")))
    for collection, module in [("params", "Dense_0"), ("params", "Conv_1"), ("batch_stats", "BatchNorm_1")]:
        jax.tree.map(
            np.testing.assert_array_equal, tuned.variables[collection][module], start.variables[collection][module]
        )
    expected = origin | {"sha256": hashlib.sha256(bundle_path.read_bytes()).hexdigest()}
    images = {"train": 1411, "validation": 192, "test": 420}
    assert json.loads((tmp_path / "run" / "origin.json").read_text()) == {"images": images, "pretrained": expected}
    assert tuned.training["pretrained"] == expected and tuned.training["config"]["pretrained"] == "hf://me/toy"
    # The class names are the same, so the head starts from that of the bundle instead of zero.
    moved = np.abs(tuned.variables["params"]["head"]["kernel"] - start.variables["params"]["head"]["kernel"]).max()
    assert 0 < moved < 0.5 * np.abs(start.variables["params"]["head"]["kernel"]).max()
    assert results["last"]["top1_accuracy"] > start.training["metrics"]["top1_accuracy"] - 0.1


def test_train_refuses_another_config_and_leaves_the_workdir_alone(trained, tmp_path):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    config = run.read_config(str(workdir))
    config.batch_size, config.epochs = 32, 9
    config.augment.hue = 0.0
    before = (workdir / "config.json").read_text()
    with pytest.raises(InputError, match=r"augment\.hue was 0\.1, is 0\.0; batch_size was 64, is 32; give") as error:
        train(config, str(workdir))
    assert "epochs" not in str(error.value)
    assert (workdir / "config.json").read_text() == before


def test_train_refuses_fewer_epochs_than_the_run_has_done(trained):
    workdir, _ = trained
    config = run.read_config(str(workdir))
    config.epochs = 2
    with pytest.raises(InputError, match=r"has trained 3 epochs, the config has 2 \(config\.epochs"):
        train(config, str(workdir))
    assert json.loads((workdir / "config.json").read_text())["epochs"] == 3


def test_refused_start_leaves_no_workdir(toy_config, tmp_path):
    toy_config.pretrained = str(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="absent"):
        train(toy_config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_evaluate_takes_data_dir_for_moved_data(trained, toyfaces_dir, tmp_path):
    (tmp_path / "moved").symlink_to(toyfaces_dir)
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(config | {"data_dir": "gone"}))
    with pytest.raises(InputError, match="not built in gone"):
        evaluate(str(workdir), "validation")
    assert evaluate(str(workdir), "validation", data_dir=str(tmp_path / "moved"))["examples"] == 192


def test_evaluate_names_a_missing_or_damaged_config(tmp_path):
    with pytest.raises(InputError, match=r"config\.json is missing"):
        evaluate(str(tmp_path), "test")
    (tmp_path / "classes.json").write_text("[]")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        evaluate(str(tmp_path), "test")
