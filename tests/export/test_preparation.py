"""The programs of docs/export.md and of the model card prepare an image as `predict` does, for both values of fit."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from animesion_jax.bundle import build_bundle, metadata
from animesion_jax.export.model_card import write_card
from animesion_jax.export.onnx import write_onnx
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.preprocessing import FITS, RESIZE
from tests.conftest import ROOT
from tests.hostile_seeds import bundle_tree


def _bundle(fit):
    """Returns a small bundle that tells apart an image that is padded and one that is stretched."""
    tree, draw = bundle_tree(), np.random.default_rng(0)

    def values(leaf):
        return (draw.standard_normal(leaf.shape) / leaf[..., 0].size ** 0.5).astype(np.float32)

    tree["variables"] = {
        "params": jax.tree.map(values, tree["variables"]["params"]),
        "batch_stats": jax.tree.map(np.ones_like, tree["variables"]["batch_stats"]),
    }
    tree["preprocessing"]["fit"] = fit
    return build_bundle("a bundle", tree)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current folder with a wide picture, face.png."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (61, 20), (200, 40, 90)).save("face.png")
    return tmp_path


def _check(program, bundle, capsys):
    """Runs a program that prints classes with probabilities, and compares them with `predict`."""
    exec(compile(program, "a block of code", "exec"), {})
    printed = [line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()]
    predicted = {fit: Recognizer(dataclasses.replace(bundle, fit=fit), 1).predict("face.png")[0] for fit in FITS}
    expected = [each["probability"] for each in predicted[bundle.fit]]
    assert [name for name, _ in printed] == [each["class"] for each in predicted[bundle.fit]]
    np.testing.assert_allclose([float(probability) for _, probability in printed], expected, atol=0.01)
    assert abs(predicted["pad"][0]["probability"] - predicted["squash"][0]["probability"]) > 0.05


@pytest.mark.parametrize("fit", FITS)
def test_program_of_the_card_prepares_the_image(folder, fit, capsys):
    bundle = _bundle(fit)
    write_onnx(bundle, "bundle.onnx", True)
    card = write_card(bundle, "hf://me/toy", "unknown")
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "onnxruntime" in block)
    assert ("square" in program) == (fit == "pad") and f"| size | 16 x 16 pixels; {FITS[fit]}; {RESIZE} |" in card
    _check(program, bundle, capsys)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("fit", FITS)
def test_program_of_the_page_prepares_the_image(folder, fit, inside, capsys):
    bundle = _bundle(fit)
    write_onnx(bundle, "demo.onnx", inside)
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "onnxruntime" in block)
    _check(program, bundle, capsys)


def test_metadata_of_other_formats_has_the_fit():
    for fit in FITS:
        preprocessing = json.loads(metadata(_bundle(fit), [])["preprocessing"])
        assert (preprocessing["size"], preprocessing["fit"], preprocessing["resize"]) == (16, fit, RESIZE)
