"""The variables that a run begins with."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.config import resolve
from animesion_jax.configs.dafre_128 import get_config
from animesion_jax.models import create_model, family_of
from animesion_jax.training.components import Components
from tests.published import torchvision_arrays


def test_new_classifier_of_a_pretrained_resnet_has_pytorchs_default_initialiser(tmp_path, capsys):
    published = torchvision_arrays(18, 7, stage_sizes=(1, 1))
    safetensors.numpy.save_file(published, tmp_path / "w.safetensors")
    config = get_config("resnet18,pretrained,faithful")
    config.pretrained, config.image_size = str(tmp_path / "w.safetensors"), 32
    model = create_model("resnet18", num_classes=200, image_size=32, stage_sizes=(1, 1))
    dataset = SimpleNamespace(class_names=tuple(map(str, range(200))))
    config = resolve(config, family_of(config.model))
    variables, origin = Components(config, (), dataset, model, (), 1, None, None, None, None).initial_variables()
    params, file = variables["params"], tmp_path / "w.safetensors"
    assert origin == {"address": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    for values in params["head"].values():
        bound = np.float32(128**-0.5)
        assert bound * (1 - 24 / values.size) < np.abs(values).max() <= bound
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
    np.testing.assert_array_equal(params["conv1"]["kernel"], published["conv1.weight"].transpose(2, 3, 1, 0))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.endswith("re-initialised")]
    assert line.split()[:3] == ["head", "2", "25,800"]
