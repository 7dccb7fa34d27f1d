"""torchvision's names of a ResNet's parameters, which timm's ResNets have too."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.models import HEAD
from animesion_jax.pretrained.merge import Arrays, Fate, Weights
from animesion_jax.pretrained.torch_layout import LEAVES, TORCH_LEAVES, from_torch_layout, to_torch_layout


def translate(weights: Weights, arrays: Mapping[str, np.ndarray]) -> None:
    """Adds torchvision's arrays under our names and in our layout; unknown arrays keep their own names."""
    for key, array in arrays.items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            weights.fates.append(Fate(f"*.{leaf}", "left out: PyTorch's counter of batches", array.size))
        elif (leaf, array.ndim) in LEAVES:
            weights.add(LEAVES[leaf, array.ndim].format(_module_name(module)), key, from_torch_layout(array))
        else:
            weights.add(key, key, array)


def _module_name(module: str) -> str:
    """Returns our name of a module, such as "layer1_0/downsample_conv" for "layer1.0.downsample.0"."""
    module = re.sub(r"^layer(\d+)\.(\d+)\.", r"layer\1_\2/", module)
    module = module.replace("downsample.0", "downsample_conv").replace("downsample.1", "downsample_bn")
    return HEAD if module == "fc" else module


def to_torchvision(variables: Mapping[str, Any]) -> Arrays:
    """Returns a ResNet's variables as torchvision's state dict; its counters of batches are 0."""
    arrays = {}
    for name, array in traverse_util.flatten_dict(variables, sep="/").items():
        module, _, leaf = name.partition("/")[2].rpartition("/")
        module = _torchvision_module(module)
        arrays[f"{module}.{TORCH_LEAVES[leaf]}"] = to_torch_layout(array)
        if leaf == "mean":
            arrays[f"{module}.num_batches_tracked"] = np.zeros((), np.int64)
    return arrays


def _torchvision_module(module: str) -> str:
    """Returns torchvision's name of one of our modules; the inverse of `_module_name`."""
    module = re.sub(r"^layer(\d+)_(\d+)/", r"layer\1.\2.", module)
    module = module.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return "fc" if module == HEAD else module
