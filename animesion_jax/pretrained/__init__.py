"""Weights to start from: `load_pretrained` reads published files of several layouts and our own.

A reader (google.py, torch_files.py, own.py) turns a file into `Weights`, arrays under our names, by the translator of
its layout. `merge` then accounts for every array of the file and every variable of the model.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from animesion_jax import hub
from animesion_jax.files import expand_home
from animesion_jax.pretrained import google, own, sources, torch_files
from animesion_jax.pretrained.merge import CLASSIFIER, Weights, merge

READERS: dict[str, Callable[[Path], Weights]] = {
    ".npz": google.read,
    ".safetensors": torch_files.read_safetensors,
    ".pth": torch_files.read_pth,
    ".pt": torch_files.read_pth,
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

    Position embeddings of another grid are resampled: those of PyTorch's files bicubically with antialiasing, as in
    timm, others bilinearly with aligned corners. The classifier is kept if `keep_head` is set and its shape fits, or if
    a bundle, an export or a run of ours has the same `class_names`. Otherwise it keeps the values of `variables`, or
    starts at zero if they are abstract.

    Args:
      path: a file, an address (`hf://OWNER/REPO[@REVISION][/FILE]`, `gs://`, `https://`), a name of `sources.NAMED`,
        or the workdir of a run of ours.
        Google's or big_vision's `.npz`; `.safetensors` with the names of timm, transformers or torchvision; `.pth` with
        these names, which needs torch; our `.msgpack` bundle.
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
    preprocessing: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the result of `load_pretrained`, and where the weights came from.

    Prints how the model, and `preprocessing` if it is given, differ from those that published weights were trained
    with. `preprocessing` has the values of the config fields "mean", "std" and "fit".

    The origin has the "address" and, of a file, its "sha256"; from a hub also its "file" and "revision", the hash of
    the commit; of a workdir its "weights" and "step"; of published weights with a warning their "note".
    """
    weights, origin = _read(path)
    source = sources.find(path)
    if weights.class_names is None:
        head = weights.arrays.get(f"{CLASSIFIER}bias")
        source = source or sources.find_copy(0 if head is None else head.size, model)
        if source and source.channels == "BGR":
            _reverse_channels(weights)
    elif class_names is not None:
        keep_head = tuple(class_names) == tuple(weights.class_names)
    merged = merge(weights, type(model).__name__, variables, keep_head)
    warning = source.note if source else weights.warning
    if warning:
        print(f"note: {warning}", file=sys.stderr)
        # Reports and model cards show it.
        origin |= {"note": warning}
    if source:
        for line in sources.differences(source, model, preprocessing or {}):
            print(f"note: {line}", file=sys.stderr)
    elif weights.class_names is None and weights.joined_heads:
        # Google's files and ResNets have the defaults of their families.
        options = ", ".join([*sources.unrevealed(model), *sources.FIELDS])
        print(
            f"note: the arrays do not reveal these options, which stay as in the config: {options}; for a copy of "
            "published weights, --config=CONFIG:MODEL,pretrained=NAME sets them",
            file=sys.stderr,
        )
    return merged, origin


def _reverse_channels(weights: Weights) -> None:
    """Makes weights for BGR images those for RGB; exact if the mean and the deviation of all channels are equal."""
    for name, array in weights.arrays.items():
        # The kernel that is applied to images, whatever the family.
        if array.ndim == 4 and array.shape[2] == 3:
            weights.arrays[name] = array[:, :, ::-1]
            weights.changes[name] = "channels reversed, because the file is for BGR"


def _read(path: str) -> tuple[Weights, dict[str, Any]]:
    suffix = os.path.splitext(path)[1]
    if os.path.isdir(expand_home(path)) or (path.startswith("gs://") and suffix not in READERS):
        return own.read_workdir(path)
    file, origin = sources.locate(path, READERS)
    return READERS[file.suffix](file), origin | {"sha256": hub.sha256(file)}
