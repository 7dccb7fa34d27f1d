"""Our own weights: a bundle, or the default weights of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.pretrained import layouts
from animesion_jax.pretrained.merge import Weights

# The first key of JAX-CV's checkpoints in msgpack, after the map's header. The WD taggers' model.msgpack is one.
JAX_CV_KEY = b"\xa5model"


def read_bundle(file: Path) -> Weights:
    """Returns a bundle's weights and class names; InputError if it is damaged or a checkpoint of JAX-CV."""
    with file.open("rb") as stream:
        if stream.read(1 + len(JAX_CV_KEY))[1:] == JAX_CV_KEY:
            instead = layouts.INSTEAD[layouts.JAX_CV]
            raise InputError(f"{file} is no bundle but a checkpoint of JAX-CV, which is not supported; give {instead}")
    bundle = load_bundle(str(file))
    return _weights(str(file), bundle.variables, bundle.classes, bundle.training)


def read_workdir(workdir: str) -> tuple[Weights, dict[str, Any]]:
    """Returns a run's default weights with its class names, and their origin; InputError if it has none."""
    # A run needs the extra [train]; bundles and published weights do not.
    from animesion_jax.workdir import run

    saved = run.load(workdir)
    origin = {"address": workdir, "weights": saved.weights, "step": saved.step}
    return _weights(workdir, saved.variables, saved.class_names, saved.origin), origin


def _weights(source: str, variables: dict[str, Any], class_names: Sequence[str], training: dict[str, Any]) -> Weights:
    warning = str(training.get("pretrained", {}).get("note", ""))
    weights = Weights(source, class_names=tuple(class_names), warning=warning)
    for name, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        weights.add(name, name, np.asarray(leaf))
    return weights
