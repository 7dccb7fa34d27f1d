"""PyTorch's files: `.safetensors`, and `.pth` without running its code."""

import json
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from animesion_jax.errors import InputError, join_some, shorten
from animesion_jax.models import FAMILIES
from animesion_jax.pretrained import eva02, layouts, timm_vit, torchvision, transformers
from animesion_jax.pretrained.merge import Arrays, Weights, damaged
from animesion_jax.pretrained.timm import from_timm

# A tensor may be a view that repeats one stored value to any shape, so its size is limited by the file's.
MAX_EXPANSION = 16

# Translators by layout: each adds a file's arrays to the weights, under our names.
TRANSLATORS: dict[str, Callable[[Weights, Arrays], None]] = {
    layouts.TORCHVISION: torchvision.translate,
    layouts.TIMM_VIT: timm_vit.translate,
    layouts.TRANSFORMERS_4: transformers.translate,
    layouts.TRANSFORMERS_5: transformers.translate,
    layouts.BEIT: partial(from_timm, family=FAMILIES["beit"]),
    layouts.EVA02: eva02.translate,
    layouts.BAAI_EVA02: eva02.translate,
}


def read_safetensors(file: Path) -> Weights:
    """Returns the weights in a file without torch, of an export of ours with its class names. InputError if damaged."""
    import safetensors.numpy

    try:
        arrays = safetensors.numpy.load_file(file)
        with safetensors.safe_open(file, "numpy") as opened:
            class_names = _class_names(opened.metadata() or {})
    except Exception as error:  # safetensors and numpy raise unrelated types on damaged bytes
        raise damaged(file, ".safetensors of numpy's types", error) from error
    weights = _translate(str(file), arrays)
    weights.class_names = class_names
    return weights


def _class_names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Returns the names of the classes of an export of ours; None for other files."""
    return tuple(json.loads(metadata["classes"])) if "animesion_jax" in metadata else None


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


def _translate(source: str, arrays: Arrays) -> Weights:
    """Returns a file's arrays under our names, by their layout; those of an unknown layout keep their own names."""
    layout = layouts.check(source, arrays, TRANSLATORS)
    weights = Weights(source, joined_heads=layout.name != layouts.TORCHVISION, rule="timm")
    if layout.name in TRANSLATORS:
        weights.prefix = layouts.WRAPPERS.match(layout.prefix).group()
        wrapped = {key: array for key, array in arrays.items() if key.startswith(weights.prefix)}
        TRANSLATORS[layout.name](weights, {key.removeprefix(weights.prefix): each for key, each in wrapped.items()})
        arrays = {key: array for key, array in arrays.items() if key not in wrapped}
    # Keep the names of the others, which no model has: `merge` lists them as left over.
    for key, array in arrays.items():
        weights.add(key, key, array)
    return weights
