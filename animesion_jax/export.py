"""Bundles: one msgpack file with a model, its preprocessing, its class names and where it came from."""

import json
import reprlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import numpy as np
from etils import epath
from flax import traverse_util

import animesion_jax
from animesion_jax import run
from animesion_jax.bundle_file import read_tree
from animesion_jax.errors import InputError, first_line
from animesion_jax.models import OPTIONS, abstract_variables, create_model, family

FORMAT = "animesion"
VERSION = 1
KEYS = ("format", "version", "model", "preprocessing", "classes", "training", "variables")
# A ResNet's variables do not say its image size; what predict sets aside for an image should not be the file's to say.
MOST_IMAGE_SIZE = 4096
RESIZE = "bilinear, antialiased, aspect not kept, rounded to uint8"


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict.

    Attributes:
      model: linen module.
      variables: float32 numpy arrays, {"params", "batch_stats" where the model has them}.
      classes: names by class id.
      image_size: side of the square input in pixels.
      mean, std: per channel, of pixels in [0, 1].
      training: data set, step, metrics and versions behind the weights.
      description: arguments of `create_model` that make the model, its name among them.
    """

    model: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: dict[str, Any]
    description: dict[str, Any]


def describe_run(saved: run.Run) -> dict[str, Any]:
    """Returns the bundle of a run as a tree of numpy arrays, strings, numbers, lists and dicts."""
    config = saved.config
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "name": config.model,
            "num_classes": len(saved.class_names),
            "image_size": config.image_size,
            "dtype": config.dtype,
            **run.model_options(config),
        },
        "preprocessing": {
            "size": config.image_size,
            "resize": RESIZE,
            "mean": list(config.mean),
            "std": list(config.std),
        },
        "classes": list(saved.class_names),
        "training": {
            "dataset": config.dataset,
            "weights": saved.weights,
            "step": saved.step,
            "metrics": saved.metrics.get(saved.weights, {}),
            "animesion_jax": animesion_jax.__version__,
            "jax": jax.__version__,
        },
        "variables": jax.tree.map(np.asarray, saved.variables),
    }


def export(workdir: str, output: str, weights: str | None = None) -> epath.Path:
    """Writes a run's weights as a bundle and returns its path; appears whole or not at all.

    Args:
      workdir: folder of a training run.
      output: file to write; local or gs://.
      weights: "best" (by validation top-1) or "last"; None for the default of the run's config.
    """
    _check_output(output)  # before a checkpoint is read
    return write_whole(output, [flax.serialization.msgpack_serialize(describe_run(run.load(workdir, weights)))])


def write_whole(output: str, parts: Iterable[bytes]) -> epath.Path:
    """Writes a file, which appears whole or not at all, and its folder; returns its path; InputError for a folder."""
    path = _check_output(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.parent / f"{path.name}.tmp"
    with fresh.open("wb") as stream:
        for part in parts:
            stream.write(part)
    fresh.replace(path)
    return path


def _check_output(output: str) -> epath.Path:
    path = epath.Path(output).expanduser()
    if path.is_dir():
        raise InputError(f"--output={output} is a folder; allowed: a file, such as {path / 'model.msgpack'}")
    return path


def bundle_of_run(workdir: str, weights: str | None = None) -> Bundle:
    """Returns what `load_bundle` would of the file that `export` writes of a run.

    Raises:
      InputError: no such run, or its variables are not finite.
    """
    try:
        return _build(describe_run(run.load(workdir, weights)))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the run in {workdir} does not hold together: {first_line(error)}") from error


def metadata(bundle: Bundle) -> dict[str, str]:
    """Returns what other formats say of a bundle beside its weights, each value as JSON."""
    described = {
        "animesion_jax": animesion_jax.__version__,
        "classes": bundle.classes,
        "model": bundle.description,
        "preprocessing": {
            "size": bundle.image_size,
            "resize": RESIZE,
            "scale": "pixels / 255",
            "mean": bundle.mean,
            "std": bundle.std,
            "channels": "RGB",
        },
        "training": bundle.training,
    }
    return {key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in described.items()}


def load_bundle(path: str) -> Bundle:
    """Returns the bundle in a file.

    Runs no code of it, and takes memory within a few times the file's size.

    Raises:
      InputError: no such file, not a bundle, truncated, of another version, or with other variables than its model.
    """
    file = epath.Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{file} is a folder; allowed: a bundle, written from a run by `export`")
    if not file.is_file():
        raise InputError(
            f"no bundle at {file}; write one: python -m animesion_jax.main export --workdir=RUN --output={file}"
        )
    with file.open("rb") as stream:
        try:
            tree = read_tree(stream, file.stat().length)
        except Exception as error:  # msgpack raises a dozen types on damaged bytes, all of which mean the same
            raise InputError(f"{file} is damaged or not a bundle ({first_line(error)}); export it again") from error
    if not isinstance(tree, dict) or not _is(tree.get("format"), FORMAT):
        raise InputError(f"{file} is not a bundle of animesion_jax; allowed: a file written by `export`")
    if not _is(tree.get("version"), VERSION):
        raise InputError(
            f"{file} has bundle version {reprlib.repr(tree.get('version'))}; this program reads version {VERSION}"
        )
    missing = [key for key in KEYS if key not in tree]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}; export it again")
    try:
        return _build(tree)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} does not hold together: {first_line(error)}; export it again") from error


def _is(value: Any, expected: Any) -> bool:
    """Returns whether a value from a file has the type of the expected one and equals it."""
    return type(value) is type(expected) and value == expected


def _build(tree: dict[str, Any]) -> Bundle:
    classes = _checked_classes(tree["classes"])
    described, preprocessing, training = (_checked_dict(tree, key) for key in ("model", "preprocessing", "training"))
    size = _check_description(described, len(classes))
    if not _is(preprocessing["size"], size):
        raise ValueError(f"preprocessing to {reprlib.repr(preprocessing['size'])} px for a model of {size} px")
    mean, std = (tuple(float(value) for value in preprocessing[name]) for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([mean, std]).all() or min(std) <= 0:
        raise ValueError(f"mean {mean} and std {std}; allowed: three finite numbers each, std above 0")
    model = create_model(**described)
    variables = _checked_variables(abstract_variables(model, size), _checked_dict(tree, "variables"))
    return Bundle(model, variables, classes, size, mean, std, training, described)


def _checked_dict(tree: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(tree[key], dict):
        raise ValueError(f"'{key}' is {type(tree[key]).__name__}, not a dict")
    return tree[key]


def _checked_classes(classes: Any) -> tuple[str, ...]:
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("the class names are not a list of strings")
    name, count = Counter(classes).most_common(1)[0] if classes else ("", 0)
    if count > 1:
        raise ValueError(f"{count} classes are named {reprlib.repr(name)}")
    return tuple(classes)


def _check_description(described: dict[str, Any], num_classes: int) -> int:
    """Returns the image size; raises ValueError for what `describe_run` would not write, such as a million layers."""
    allowed = ("name", "num_classes", "image_size", "dtype", *OPTIONS[family(described["name"])])
    extra = [key for key in described if key not in allowed]
    if extra:
        raise ValueError(f"the model has an option {reprlib.repr(extra[0])}; allowed: {', '.join(allowed)}")
    if not _is(described["num_classes"], num_classes):
        raise ValueError(f"{num_classes} class names for {reprlib.repr(described['num_classes'])} classes")
    size = described["image_size"]
    if type(size) is not int or not 1 <= size <= MOST_IMAGE_SIZE:
        raise ValueError(f"image_size is {reprlib.repr(size)}; allowed: 1 to {MOST_IMAGE_SIZE}")
    return size


def _checked_variables(expected: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables; raises ValueError unless they are the expected ones, and numbers throughout."""
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
            raise ValueError(f"variable '{name}' is not finite: the training had diverged; take a run that had not")
    return variables
