"""Exports a run as a bundle."""

import json
import os
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath

import animesion_jax
from animesion_jax import hub
from animesion_jax.bundle import FORMAT, VERSION, Bundle, build_bundle, write_bundle
from animesion_jax.config import changes_result, flatten, to_tree
from animesion_jax.files import check_output
from animesion_jax.models import family_of
from animesion_jax.preprocessing import RESIZE
from animesion_jax.pretrained.sources import NAMED
from animesion_jax.workdir import run


def _describe(saved: run.Run) -> dict[str, Any]:
    """Returns the content of a bundle: a tree of numpy arrays, strings, numbers, lists and dicts."""
    config, started = saved.config, saved.origin.get("pretrained", {})
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
            "fit": config.fit,
            "resize": RESIZE,
            "mean": list(config.mean),
            "std": list(config.std),
        },
        "classes": list(saved.class_names),
        "training": {
            "dataset": config.dataset,
            "config": _recipe(config),
            "images": saved.origin.get("images", {}),
            "pretrained": started | ({"address": _public_name(started["address"])} if started else {}),
            "weights": saved.weights,
            "step": saved.step,
            "metrics": saved.metrics.get(saved.weights, {}),
            "validation": saved.validation,
            "animesion_jax": animesion_jax.__version__,
            "jax": jax.__version__,
        },
        "variables": jax.tree.map(np.asarray, saved.variables),
        **({"crops": _crops(saved.origin["crops"])} if "crops" in saved.origin else {}),
    }


def _crops(origin: dict[str, Any]) -> dict[str, Any]:
    """Returns the part "crops" of a bundle: the margin of the crops that the run was trained on."""
    crops = {name: origin[name] for name in ("detector", "sha256", "scale", "shift", "fit")}
    return crops | {"source": {"training": True, "min_confidence": origin["min_confidence"]}}


def _recipe(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the fields that the weights depend on, by dotted name, without the paths of this machine."""
    flat = json.loads(json.dumps(flatten(to_tree(config))))
    family = family_of(config.model)
    recipe = {name: value for name, value in flat.items() if value is not None and changes_result(name, flat, family)}
    if "pretrained" in recipe and config.pretrained not in NAMED:
        recipe["pretrained"] = _public_name(config.pretrained)
    if config.detector:
        recipe["detector"] = _public_name(config.detector)
    return {name: value for name, value in recipe.items() if name != "folder"}


def _public_name(path: str) -> str:
    """Returns an address without secrets, or the last part of a local path."""
    return hub.without_secrets(path) if hub.is_address(path) else os.path.basename(os.path.normpath(path))


def export(workdir: str, output: str, weights: str | None = None) -> epath.Path:
    """Writes a run's weights as a bundle, atomically, and returns its path.

    Args:
      workdir: folder of a training run; local or gs://.
      output: file to write; local or gs://.
      weights: "best" (by validation top-1) or "last"; None takes config.default_weights.

    Raises:
      InputError: no such run, or `output` is a folder.
    """
    check_output(output)  # before reading a checkpoint, which takes long
    return write_bundle(_describe(run.load(workdir, weights)), output)


def bundle_of_run(workdir: str, weights: str | None = None) -> Bundle:
    """Returns the bundle of a run without writing a file; equals `load_bundle` of an exported file.

    Raises:
      InputError: no such run, or its variables are not finite.
    """
    return build_bundle(f"the run in {workdir}", _describe(run.load(workdir, weights)))
