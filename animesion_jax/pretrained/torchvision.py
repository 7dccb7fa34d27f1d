"""torchvision's ResNet weights: `.safetensors` with torchvision's or timm's names, or torchvision's own `.pth`."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from animesion_jax.errors import InputError, first_line
from animesion_jax.pretrained.merge import Weights

# Leaf names by the number of dimensions of the array: a "weight" is a kernel or BatchNorm's scale.
LEAVES = {
    ("weight", 4): "params/{}/kernel",
    ("weight", 2): "params/{}/kernel",
    ("weight", 1): "params/{}/scale",
    ("bias", 1): "params/{}/bias",
    ("running_mean", 1): "batch_stats/{}/mean",
    ("running_var", 1): "batch_stats/{}/var",
}
# OIHW to HWIO, and (out, in) to (in, out).
TRANSPOSES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}


def read_safetensors(file: Path) -> Weights:
    """Returns the weights in a file; needs no torch. InputError if it is damaged."""
    import safetensors
    import safetensors.numpy

    try:
        arrays = safetensors.numpy.load_file(file)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise InputError(f"{file} is damaged or no .safetensors ({first_line(error)}); download it again") from error
    return translate(str(file), arrays)


def read_pth(file: Path) -> Weights:
    """Returns the weights in a PyTorch file; runs no code of it. InputError without torch or if it is damaged."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading {file} needs PyTorch; pip install torch, or give the same weights as .safetensors"
        ) from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        arrays = {key: tensor.numpy() for key, tensor in state.items()}
    except (OSError, ValueError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{file} is damaged or no mapping of names to tensors ({first_line(error)}); download it again"
        ) from error
    return translate(str(file), arrays)


def translate(source: str, arrays: Mapping[str, Any]) -> Weights:
    """Returns torchvision's arrays under our names and in our layout; what has no counterpart keeps its own name."""
    weights = Weights(source)
    for key, array in arrays.items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            weights.ignored[key] = "PyTorch's counter of batches"
            continue
        ndim = getattr(array, "ndim", None)
        if (leaf, ndim) in LEAVES:
            name = LEAVES[leaf, ndim].format(module_name(module))
            weights.add(name, key, np.ascontiguousarray(array.transpose(TRANSPOSES[ndim])))
        else:
            weights.add(key, key, array)
    return weights


def module_name(module: str) -> str:
    """Returns our name of a module, such as "layer1_0/downsample_conv" of "layer1.0.downsample.0"."""
    module = re.sub(r"^layer(\d+)\.(\d+)\.", r"layer\1_\2/", module)
    module = re.sub(r"downsample\.0$", "downsample_conv", module)
    module = re.sub(r"downsample\.1$", "downsample_bn", module)
    return "head" if module == "fc" else module
