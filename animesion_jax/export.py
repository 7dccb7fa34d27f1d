"""Bundles: one msgpack file with a model, its preprocessing, its class names and where it came from."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import flax.serialization
import jax
import numpy as np
from etils import epath

import animesion_jax
from animesion_jax import run
from animesion_jax.errors import InputError, first_line
from animesion_jax.models import abstract_variables, create_model

FORMAT = "animesion"
VERSION = 1
KEYS = ("format", "version", "model", "preprocessing", "classes", "training", "variables")
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
    """

    model: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: dict[str, Any]


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
    path = epath.Path(output).expanduser()
    tree = describe_run(run.load(workdir, weights))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.parent / f"{path.name}.tmp"
    fresh.write_bytes(flax.serialization.msgpack_serialize(tree))
    fresh.replace(path)
    return path


def load_bundle(path: str) -> Bundle:
    """Returns the bundle in a file.

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
    try:
        tree = flax.serialization.msgpack_restore(file.read_bytes())
    except Exception as error:  # msgpack raises a dozen types on damaged bytes, all of which mean the same
        raise InputError(f"{file} is damaged or not a bundle ({first_line(error)}); export it again") from error
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise InputError(f"{file} is not a bundle of animesion_jax; allowed: a file written by `export`")
    if tree.get("version") != VERSION:
        raise InputError(f"{file} has bundle version {tree.get('version')!r}; this program reads version {VERSION}")
    missing = [key for key in KEYS if key not in tree]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}; export it again")
    try:
        return _build(tree)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} does not hold together: {first_line(error)}; export it again") from error


def _build(tree: dict[str, Any]) -> Bundle:
    options = tree["model"]
    model = create_model(**options)
    classes = tuple(tree["classes"])
    if len(classes) != options["num_classes"]:
        raise ValueError(f"{len(classes)} class names for {options['num_classes']} classes")
    size = options["image_size"]
    _check_shapes(abstract_variables(model, size), tree["variables"])
    preprocessing = tree["preprocessing"]
    mean, std = (tuple(float(value) for value in preprocessing[name]) for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"mean {mean} and std {std}; allowed: three numbers each, std above 0")
    return Bundle(model, tree["variables"], classes, size, mean, std, tree["training"])


def _check_shapes(expected: Any, variables: Any) -> None:
    wanted, found = (
        {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
        for leaves in (jax.tree_util.tree_leaves_with_path(tree) for tree in (expected, variables))
    )
    wrong = sorted(set(wanted) ^ set(found))
    if wrong:
        raise ValueError(f"{len(wrong)} variables are missing or extra, the first is '{wrong[0]}'")
    for name, leaf in wanted.items():
        value = found[name]
        if getattr(value, "shape", None) != leaf.shape or getattr(value, "dtype", None) != leaf.dtype:
            raise ValueError(
                f"variable '{name}' is {getattr(value, 'dtype', type(value).__name__)}"
                f"{getattr(value, 'shape', '')}, expected {leaf.dtype}{leaf.shape}"
            )
