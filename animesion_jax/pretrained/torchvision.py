"""torchvision's ResNet weights: `.safetensors` with torchvision's or timm's names, or torchvision's own `.pth`."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.errors import InputError, join_some, shorten
from animesion_jax.models import HEAD
from animesion_jax.pretrained import layouts
from animesion_jax.pretrained.merge import Arrays, LeftOut, Weights, damaged

# Leaf names by the number of dimensions of the array: a "weight" is a kernel or BatchNorm's scale.
LEAVES = {
    ("weight", 4): "params/{}/kernel",
    ("weight", 2): "params/{}/kernel",
    ("weight", 1): "params/{}/scale",
    ("bias", 1): "params/{}/bias",
    ("running_mean", 1): "batch_stats/{}/mean",
    ("running_var", 1): "batch_stats/{}/var",
}
# A tensor may be a view that repeats one stored value to any shape, so its size is limited by the file's.
MAX_EXPANSION = 16
# OIHW to HWIO, and (out, in) to (in, out).
TRANSPOSES = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
# PyTorch's leaf names by ours.
TORCH_LEAVES = {template.rpartition("/")[2]: leaf for (leaf, _), template in LEAVES.items()}


def read_safetensors(file: Path) -> Weights:
    """Returns the weights in a file without torch. InputError if it is damaged."""
    import safetensors.numpy

    try:
        arrays = safetensors.numpy.load_file(file)
    except Exception as error:  # safetensors and numpy raise unrelated types on damaged bytes
        raise damaged(file, ".safetensors of numpy's types", error) from error
    return _translate(str(file), arrays)


def read_pth(file: Path) -> Weights:
    """Returns the weights in a PyTorch file without running its code. InputError if damaged or without torch."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading {file} needs PyTorch; pip install torch, or give the same weights as .safetensors"
        ) from error
    form = ".pth of tensors by name"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        _check_not_nested(file, state)
        arrays = _to_numpy(state, MAX_EXPANSION * file.stat().st_size)
    except InputError:
        raise
    except pickle.UnpicklingError as error:  # torch's message asks to switch the protection off
        raise damaged(file, form, ValueError("other objects could run code; they are not read")) from error
    except Exception as error:  # zipfile and torch raise a dozen types on damaged bytes
        raise damaged(file, form, error) from error
    return _translate(str(file), arrays)


def _check_not_nested(file: Path, state: Any) -> None:
    """Raises InputError for a training checkpoint, which has the weights in one of its entries."""
    entries = state.items() if isinstance(state, Mapping) else ()
    for key, entry in entries:
        tensors = entry.items() if isinstance(entry, Mapping) else ()
        names = [str(name) for name, value in tensors if hasattr(value, "detach")]
        if names:
            where = f"[{shorten(repr(key), layouts.MAX_NAME)}]"
            raise InputError(
                f"{file} is a training checkpoint; its entry {where} has {len(names)} arrays with "
                f"{layouts.identify(names)}; save it alone: torch.save(torch.load({str(file)!r}){where}, 'weights.pth')"
            )


def _to_numpy(state: Any, max_bytes: int) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict as arrays, floats as float32: numpy has no bfloat16.

    Raises:
      TypeError: it is not a dict of tensors.
      ValueError: the tensors take more than `max_bytes`.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"it holds a {type(state).__name__}")
    wrong = [f"'{key}' is {type(value).__name__}" for key, value in state.items() if not hasattr(value, "detach")]
    if wrong:
        raise TypeError(join_some(wrong, 3, "; "))
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > max_bytes:
        raise ValueError(f"tensors of {size} bytes; allowed: {max_bytes}, {MAX_EXPANSION} times the file's size")
    tensors = {str(key): tensor.detach() for key, tensor in state.items()}
    return {key: (each.float() if each.is_floating_point() else each).numpy() for key, each in tensors.items()}


def _translate(source: str, arrays: Mapping[str, np.ndarray]) -> Weights:
    """Returns torchvision's arrays under our names and in our layout; unknown arrays keep their own names."""
    weights = Weights(source)
    for key, array in arrays.items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            weights.left_out.append(LeftOut(f"*.{leaf}", "PyTorch's counter of batches", array.size))
        elif (leaf, array.ndim) in LEAVES:
            name = LEAVES[leaf, array.ndim].format(_module_name(module))
            weights.add(name, key, np.ascontiguousarray(array.transpose(TRANSPOSES[array.ndim])))
        else:
            weights.add(key, key, array)
    return weights


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


def to_torch_layout(array: np.ndarray) -> np.ndarray:
    """Returns a kernel (HWIO, or (in, out)) or a vector in PyTorch's layout."""
    return np.ascontiguousarray(array.transpose(np.argsort(TRANSPOSES[array.ndim])))


def _torchvision_module(module: str) -> str:
    """Returns torchvision's name of one of our modules; the inverse of `_module_name`."""
    module = re.sub(r"^layer(\d+)_(\d+)/", r"layer\1.\2.", module)
    module = module.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
    return "fc" if module == HEAD else module
