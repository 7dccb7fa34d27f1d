"""Tiny models and files of the published layouts, for the tests of this folder."""

import os

import flax.linen as nn
import pytest
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.published import Arrays, google_arrays

SIZE = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "mlp_dim": 12}


def tiny_vit(name="vit_b16", image_size=64, num_classes=5, **options) -> tuple[nn.Module, dict]:
    """Returns a tiny ViT or hybrid and its abstract variables."""
    model = create_model(name, num_classes=num_classes, image_size=image_size, **(SIZE | options))
    return model, abstract_variables(model, image_size)


def tiny_arrays(image_size=64, num_classes=7, **options) -> Arrays:
    """Returns a Google file of `tiny_vit`; options as in `google_arrays`."""
    return google_arrays("vit_b16", num_classes, image_size, **(SIZE | options))


def tiny_resnet(name="resnet18", stage_sizes=(1, 1)) -> tuple[nn.Module, dict]:
    """Returns a short ResNet and its abstract variables."""
    model = create_model(name, num_classes=5, image_size=32, stage_sizes=stage_sizes)
    return model, abstract_variables(model, 32)


def flatten(variables: dict) -> Arrays:
    """Returns the parameters by names such as "head/kernel"."""
    return traverse_util.flatten_dict(variables["params"], sep="/")


def refused(path, model, variables, *words, keep_head=False) -> str:
    """Asserts that loading fails with one line that has the words; returns the line."""
    with pytest.raises(InputError) as caught:
        load_pretrained(str(path), model, variables, keep_head)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in (str(path), *words)), message
    return message


class Bomb:
    """Makes a folder when its pickle is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)
