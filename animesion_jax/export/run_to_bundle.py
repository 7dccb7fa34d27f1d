"""Exports a run as a bundle."""

from typing import Any

import jax
import numpy as np
from etils import epath

import animesion_jax
from animesion_jax.bundle import FORMAT, VERSION, Bundle, build_bundle, write_bundle
from animesion_jax.files import check_output
from animesion_jax.preprocessing import RESIZE
from animesion_jax.workdir import run


def _describe(saved: run.Run) -> dict[str, Any]:
    """Returns the content of a bundle: a tree of numpy arrays, strings, numbers, lists and dicts."""
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
