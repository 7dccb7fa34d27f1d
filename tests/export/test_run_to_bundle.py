"""A run as a bundle: its facts about the run, without paths and keys."""

import json
import shutil

import pytest

from animesion_jax.bundle import load_bundle
from animesion_jax.export.run_to_bundle import export


@pytest.fixture
def workdir(trained, tmp_path):
    """A copy of a run's folder."""
    return shutil.copytree(trained[0], tmp_path / "run")


def _change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("pretrained", "public"),
    [
        ("/home/me/secret/w.npz", "w.npz"),
        ("/home/me/secret/run/", "run"),
        ("https://me:secret@h/w.npz?key=secret#x", "https://h/w.npz"),
        ("gs://b/w.npz", "gs://b/w.npz"),
        ("hf://me/toy@v1/w.npz", "hf://me/toy@v1/w.npz"),
        ("google/imagenet21k/ViT-B_16", "google/imagenet21k/ViT-B_16"),
    ],
)
def test_bundle_names_the_weights_without_paths_and_keys(workdir, tmp_path, pretrained, public):
    _change(workdir / "config.json", pretrained=pretrained, folder="/home/me/secret/faces")
    _change(workdir / "origin.json", pretrained={"address": pretrained.split("?")[0], "sha256": "0" * 64})
    output = export(str(workdir), str(tmp_path / "toy.msgpack"))
    training = load_bundle(str(output)).training
    assert training["config"]["pretrained"] == public and training["pretrained"]["sha256"] == "0" * 64
    assert b"secret" not in output.read_bytes() and b"/home" not in output.read_bytes()


def test_bundle_has_the_validation_metrics_of_its_weights(workdir, trained, tmp_path):
    for weights in ("best", "last"):
        training = load_bundle(str(export(str(workdir), str(tmp_path / "toy.msgpack"), weights))).training
        step = trained[1][weights]["step"]
        rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        (row,) = [each for each in rows if each["split"] == "validation" and each["step"] == step]
        assert training["validation"] == {name: row[name] for name in training["validation"]}
        assert training["validation"].keys() == {"loss", "top1_accuracy", "top5_accuracy", "examples"}


def test_bundle_of_a_run_of_an_older_version_has_no_origin(workdir, tmp_path):
    (workdir / "origin.json").unlink()
    training = load_bundle(str(export(str(workdir), str(tmp_path / "toy.msgpack")))).training
    assert training["images"] == training["pretrained"] == {}
