"""Weights to start from: `load_pretrained` reads Google's ViTs, torchvision's ResNets and our own files.

A reader (google.py, torchvision.py, own.py) turns a file into `Weights`, arrays under our names. `merge` then
accounts for every array of the file and every variable of the model.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from animesion_jax import hub
from animesion_jax.files import expand_home
from animesion_jax.pretrained import google, own, sources, torch_files
from animesion_jax.pretrained.merge import Weights, merge

READERS: dict[str, Callable[[Path], Weights]] = {
    ".npz": google.read,
    ".safetensors": torch_files.read_safetensors,
    ".pth": torch_files.read_pth,
    ".msgpack": own.read_bundle,
}

__all__ = ["load_pretrained", "load_with_origin"]


def load_pretrained(
    path: str,
    model: nn.Module,
    variables: dict[str, Any],
    keep_head: bool = False,
    class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Returns `variables` with the weights of a file, and prints to stderr how every array was used.

    Position embeddings of another grid are resampled (align-corners bilinear). The classifier is kept if `keep_head` is
    set and its shape fits, or if a bundle or run of ours has the same `class_names`. Otherwise it keeps the values of
    `variables`, or starts at zero if they are abstract.

    Args:
      path: a file, an address (`hf://OWNER/REPO[@REVISION][/FILE]`, `gs://`, `https://`), a name of `sources.NAMED`,
        or the workdir of a run of ours.
        Google's `.npz`; `.safetensors` with torchvision's or timm's names; torchvision's `.pth`, which needs torch;
        our `.msgpack` bundle.
      model: from `create_model`.
      variables: the model's, {"params", "batch_stats" if it has them}, concrete or from `abstract_variables`; not
        changed.
      keep_head: whether a classifier of the same shape is kept.
      class_names: names by class id of the coming training.

    Returns:
      float32 numpy arrays in the structure of `variables`.

    Raises:
      InputError: the file is missing, damaged, of another layout or model, or has arrays that do not fit; the message
        names the layout or the first arrays.
    """
    return load_with_origin(path, model, variables, keep_head, class_names)[0]


def load_with_origin(
    path: str,
    model: nn.Module,
    variables: dict[str, Any],
    keep_head: bool = False,
    class_names: Sequence[str] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the result of `load_pretrained`, and where the weights came from.

    The origin has the "address" and, of a file, its "sha256"; from a hub also its "file" and "revision", the hash of
    the commit; of a workdir its "weights" and "step".
    """
    weights, origin = _read(path)
    if weights.class_names is not None and class_names is not None:
        keep_head = tuple(class_names) == tuple(weights.class_names)
    return merge(weights, type(model).__name__, variables, keep_head), origin


def _read(path: str) -> tuple[Weights, dict[str, Any]]:
    suffix = os.path.splitext(path)[1]
    if os.path.isdir(expand_home(path)) or (path.startswith("gs://") and suffix not in READERS):
        return own.read_workdir(path)
    file, origin = sources.locate(path, READERS)
    return READERS[file.suffix](file), origin | {"sha256": hub.sha256(file)}
