"""The variables that a run begins with."""

from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.config import resolve
from animesion_jax.models import create_model, family_of
from animesion_jax.training.components import Components
from configs.dafre_128 import get_config
from tests.published import torchvision_arrays


def _initial_variables(config, file):
    """Returns the first variables of a short ResNet for 200 characters from a published file of 7 classes."""
    safetensors.numpy.save_file(torchvision_arrays(18, 7, stage_sizes=(1, 1)), file)
    config.pretrained, config.image_size = str(file), 32
    model = create_model(
        "resnet18", num_classes=200, image_size=32, stage_sizes=(1, 1), pytorch_init=config.pytorch_init
    )
    dataset = SimpleNamespace(class_names=tuple(map(str, range(200))))
    config = resolve(config, family_of(config.model))
    return Components(config, (), dataset, model, (), 1, None, None, None, None).initial_variables()


def test_new_classifier_of_a_faithful_pretrained_resnet_starts_as_pytorchs_default(tmp_path, capsys):
    variables = _initial_variables(get_config("resnet18,pretrained,faithful"), tmp_path / "w.safetensors")
    for values in variables["params"]["head"].values():
        bound = np.float32(128**-0.5)
        assert bound * (1 - 24 / values.size) < np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
    body = torchvision_arrays(18, 7, stage_sizes=(1, 1))["conv1.weight"]
    np.testing.assert_array_equal(variables["params"]["conv1"]["kernel"], body.transpose(2, 3, 1, 0))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.endswith("re-initialised")]
    assert line.split()[:3] == ["head", "2", "25,800"]


def test_new_classifier_of_an_ordinary_pretrained_resnet_starts_at_zero(tmp_path):
    variables = _initial_variables(get_config("resnet18,pretrained"), tmp_path / "w.safetensors")
    assert not any(values.any() for values in variables["params"]["head"].values())
