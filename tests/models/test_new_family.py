"""A new model family is one record: every command works with it."""

import dataclasses
import json
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.export.safetensors import write_safetensors
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.main import main
from animesion_jax.models import FAMILIES, HEAD, Family, GradCam, family_of
from animesion_jax.models.dropout import Dropout
from animesion_jax.pretrained import load_pretrained
from animesion_jax.training.train import train
from tfds_builders.toyfaces.draw import write_new_faces

MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.25, 0.2)


class TinyNet(nn.Module):
    """Two strided convolutions, the mean over the image, a classifier."""

    min_image_size: ClassVar[int] = 8
    image_multiple: ClassVar[int] = 4

    num_classes: int
    width: int
    dropout_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images, train=False, positions=None):
        x = images.astype(self.dtype)
        for place in range(2):
            x = nn.relu(nn.Conv(self.width, (3, 3), strides=2, dtype=self.dtype, name=f"conv{place}")(x))
        x = Dropout(self.dropout_rate)(x.astype(jnp.float32).mean((1, 2)), train, positions)
        return nn.Dense(self.num_classes, name=HEAD)(x)


FAMILY = Family(
    name="tinynet",
    models={"tinynet8": lambda **options: TinyNet(width=8, **options)},
    options={},
    dropout_rate=0.1,
    mean=MEAN,
    std=STD,
    optimizer="sgd",
    has_batch_norm=False,
    explain=GradCam(features=lambda model: "conv1"),
)


# Small members of families that came later: the name of the model and its image size.
SMALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "mlp_dim": 48}
LATER = {"beit_b16": 16, "eva02_b14": 14}


@pytest.fixture
def run(request, toy_config, tmp_path, monkeypatch):
    """(workdir, results, family) of a TinyNet or of the parameter's model, with the family entered."""
    name = getattr(request, "param", "tinynet8")
    family, toy_config.epochs, toy_config.model = FAMILY, 1, name
    if name in LATER:
        family = family_of(name)
        family = dataclasses.replace(family, models={name: partial(family.models[name], **SMALL)})
        toy_config.image_size, toy_config.crop_margin = LATER[name], 24 - LATER[name]
    monkeypatch.setitem(FAMILIES, family.name, family)
    toy_config.optimizer, toy_config.learning_rate = family.optimizer, {"sgd": 0.1, "adamw": 1e-2}[family.optimizer]
    return tmp_path / "run", train(toy_config, str(tmp_path / "run")), family


def _main(capsys, *arguments):
    """Returns the output of a command that succeeds."""
    assert main(["animesion", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "run", ["tinynet8", *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)], indirect=True
)
def test_new_family_goes_through_every_command(run, tmp_path, capsys):
    workdir, results, family = run
    (name,) = family.models
    saved = json.loads((workdir / "config.json").read_text())
    assert (saved["model"], saved["dropout_rate"], saved["mean"]) == (name, None, None)
    evaluated = json.loads(_main(capsys, "evaluate", f"--workdir={workdir}", "--weights=best"))
    assert evaluated["loss"] == pytest.approx(results["best"]["loss"], rel=1e-5)
    assert evaluated["loss"] < np.log(20)  # chance

    file = tmp_path / "tiny.msgpack"
    _main(capsys, "export", f"--workdir={workdir}", f"--output={file}")
    bundle = load_bundle(str(file))
    # The record's values replaced the nulls.
    assert (bundle.mean, bundle.std) == (family.mean, family.std)

    write_new_faces(tmp_path / "faces", 1)
    rows = _main(capsys, "predict", f"--bundle={file}", "--format=jsonl", tmp_path / "faces").splitlines()
    assert {json.loads(row)["predictions"][0]["class"] for row in rows} <= {*bundle.classes}
    (row, *_) = _main(capsys, "explain", f"--bundle={file}", tmp_path / "faces").splitlines()
    assert json.loads(row)["overlay"].endswith(".explained.png")

    _main(capsys, "export", f"--bundle={file}", f"--output={tmp_path / 'tiny.onnx'}", "--format=onnx",
          "--preprocessing=inside")  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (3, bundle.image_size, bundle.image_size, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"images": images})
    np.testing.assert_allclose(probabilities, Recognizer(bundle).probabilities(images), atol=1e-5)

    file = str(tmp_path / "tiny.safetensors")
    if not family.timm:
        with pytest.raises(InputError, match=f"neither torchvision nor timm has {name}; allowed: resnet10, "):
            write_safetensors(bundle, file)
        return
    write_safetensors(bundle, file)
    variables = load_pretrained(file, bundle.model, bundle.variables, keep_head=True)
    jax.tree.map(np.testing.assert_array_equal, variables, bundle.variables)


def test_family_without_its_record_is_unknown():
    with pytest.raises(InputError, match="unknown model 'tinynet8'; allowed: shallownet, resnet10"):
        family_of("tinynet8")
