"""Checks of the parts of a bundle. They raise ValueErrors; bundle.py adds the name of the file."""

import reprlib
from collections import Counter
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.models import family_of
from animesion_jax.preprocessing import FITS

# Types of the entries that export writes about the run, and the keys of a downloaded bundle's origin.
TRAINING = {
    "animesion_jax": str, "config": dict, "dataset": str, "images": dict, "jax": str, "metrics": dict,
    "pretrained": dict, "step": int, "validation": dict, "weights": str,
}  # fmt: skip
ORIGIN = ("address", "file", "revision", "sha256")
# Limits the memory that prediction allocates for an image; a ResNet's variables do not limit its image size.
MAX_IMAGE_SIZE = 4096


def is_exactly(value: Any, expected: Any) -> bool:
    """Returns whether a value from a file equals the expected one and has its type: True is not 1."""
    return type(value) is type(expected) and value == expected


def checked_dict(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Returns the value of a key; ValueError if it is not a dict."""
    value = tree.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"'{key}' is {type(value).__name__}, not a dict")
    return value


def checked_training(training: dict[str, Any]) -> dict[str, Any]:
    """Returns the description of the run; ValueError if an entry of `TRAINING` has another type."""
    for key, kind in TRAINING.items():
        if key in training and type(training[key]) is not kind:
            raise ValueError(f"the training's {key} is {type(training[key]).__name__}, not {kind.__name__}")
    counts = training.get("images", {})
    if not all(isinstance(name, str) and type(count) is int and count >= 0 for name, count in counts.items()):
        raise ValueError(f"the numbers of images are {reprlib.repr(counts)}; allowed: 0 or more for each split")
    return training


def checked_origin(origin: Any) -> dict[str, str]:
    """Returns the origin; ValueError if it is not a dict of some of `ORIGIN` to strings."""
    if not isinstance(origin, dict) or not all(isinstance(value, str) for value in origin.values()):
        raise ValueError(f"the origin is {reprlib.repr(origin)}; allowed: strings")
    extra = [key for key in origin if key not in ORIGIN]
    if extra:
        raise ValueError(f"the origin has {reprlib.repr(extra[0])}; allowed: {', '.join(ORIGIN)}")
    return origin


def checked_classes(classes: Any) -> tuple[str, ...]:
    """Returns the names; ValueError if they are not a list of distinct strings."""
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("the class names are not a list of strings")
    name, count = Counter(classes).most_common(1)[0] if classes else ("", 0)
    if count > 1:
        raise ValueError(f"{count} classes are named {reprlib.repr(name)}")
    return tuple(classes)


def checked_image_size(described: dict[str, Any], num_classes: int) -> int:
    """Returns the image size; ValueError for options that export does not write, such as a million layers."""
    allowed = ("name", "num_classes", "image_size", "dtype", *family_of(described["name"]).options)
    extra = [key for key in described if key not in allowed]
    if extra:
        raise ValueError(f"the model has an option {reprlib.repr(extra[0])}; allowed: {', '.join(allowed)}")
    if not is_exactly(described["num_classes"], num_classes):
        raise ValueError(f"{num_classes} class names for {reprlib.repr(described['num_classes'])} classes")
    size = described["image_size"]
    if type(size) is not int or not 1 <= size <= MAX_IMAGE_SIZE:
        raise ValueError(f"image_size is {reprlib.repr(size)}; allowed: 1 to {MAX_IMAGE_SIZE}")
    return size


def checked_fit(fit: Any) -> str:
    """Returns how an image becomes the square; ValueError if it is not a key of `FITS`."""
    if not isinstance(fit, str) or fit not in FITS:
        raise ValueError(f"fit is {reprlib.repr(fit)}; allowed: {', '.join(FITS)}")
    return fit


def checked_statistics(preprocessing: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and std; ValueError if they are not three finite numbers each, std above 0."""
    mean, std = (tuple(float(value) for value in preprocessing[name]) for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([mean, std]).all() or min(std) <= 0:
        raise ValueError(f"mean {mean} and std {std}; allowed: three finite numbers each, std above 0")
    return mean, std


def checked_variables(expected: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables; ValueError for other names, shapes or dtypes than expected, or non-finite values."""
    wanted, found = traverse_util.flatten_dict(expected), traverse_util.flatten_dict(variables, keep_empty_nodes=True)
    wrong = sorted("/".join(map(str, path)) for path in wanted.keys() ^ found.keys())
    if wrong:
        raise ValueError(f"{len(wrong)} variables are missing or extra, the first is '{wrong[0]}'")
    for path, leaf in wanted.items():
        name, value = "/".join(path), found[path]
        if getattr(value, "shape", None) != leaf.shape or getattr(value, "dtype", None) != leaf.dtype:
            raise ValueError(
                f"variable '{name}' is {getattr(value, 'dtype', type(value).__name__)}"
                f"{getattr(value, 'shape', '')}, expected {leaf.dtype}{leaf.shape}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"variable '{name}' is not finite, so the training diverged; export a run that did not")
    return variables
