"""Puts the arrays of a file into a model's variables, and accounts for every one of both."""

import re
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.pretrained import variants
from animesion_jax.pretrained.positions import resample_positions

HEAD = "params/head/"
PRE_LOGITS = "params/pre_logits/"
POSITIONS = "params/Transformer/posembed_input/pos_embedding"

Arrays = dict[str, np.ndarray]


@dataclass
class Weights:
    """What a file holds, under our names.

    Attributes:
      source: the file, for messages.
      arrays: float32 by "collection/module/.../leaf", as in our variables.
      keys: the file's own name for each of them.
      ignored: reasons by the file's names of what is left out.
      class_names: names by class id of the file's classifier; None where the file does not say.
    """

    source: str
    arrays: Arrays = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None

    def add(self, name: str, key: str, array: np.ndarray) -> None:
        """Adds an array of the file under our name; InputError if two of its names mean the same or it is no float."""
        if name in self.arrays:
            raise InputError(f"{self.source}: '{key}' and '{self.keys[name]}' both stand for '{name}'")
        if not isinstance(array, np.ndarray) or array.dtype.name not in FLOATS:
            dtype = getattr(array, "dtype", type(array).__name__)
            raise InputError(f"{self.source}: '{key}' is {dtype}; allowed: {', '.join(FLOATS)}")
        self.arrays[name], self.keys[name] = array.astype(np.float32), key


FLOATS = ("float32", "float64", "float16", "bfloat16")


def merge(weights: Weights, model_name: str, variables: dict[str, Any], keep_head: bool) -> dict[str, Any]:
    """Returns the variables with the file's arrays; prints a line to stderr for every group of them.

    Raises:
      InputError: the file is of another model, or arrays are missing, left over or of another shape; names them all.
    """
    wanted = traverse_util.flatten_dict(variables, sep="/")
    variants.check(weights.source, weights.arrays, wanted)
    arrays, ignored = dict(weights.arrays), dict(weights.ignored)
    result: Arrays = {}
    fates: dict[str, str] = {}

    def ignore(prefix: str, reason: str) -> None:
        for name in [name for name in arrays if name.startswith(prefix)]:
            ignored[weights.keys[name]] = f"{reason} {arrays.pop(name).shape}"

    kernel = HEAD + "kernel"
    if not (keep_head and kernel in arrays and arrays[kernel].shape == wanted[kernel].shape):
        for name in (name for name in wanted if name.startswith(HEAD)):
            result[name], fates[name] = np.zeros(wanted[name].shape, np.float32), "re-initialised to zero"
        ignore(HEAD, "the file's classifier, replaced")
    if not any(name.startswith(PRE_LOGITS) for name in wanted):
        ignore(PRE_LOGITS, "dropped, the model has no pre_logits")
    if variants.has_other_grid(arrays, wanted):
        old, shape = arrays.pop(POSITIONS), wanted[POSITIONS].shape
        result[POSITIONS] = resample_positions(weights.source, old, shape[1], has_token=variants.CLS in wanted)
        fates[POSITIONS] = f"resampled, {old.shape[1]} to {shape[1]} tokens"

    offenders = []
    for name in (name for name in wanted if name not in fates):
        found = arrays.pop(name, None)
        if found is None:
            offenders.append(f"'{name}' {wanted[name].shape} is not in the file")
        elif found.shape != wanted[name].shape:
            offenders.append(f"'{weights.keys[name]}' is {found.shape} in the file, {wanted[name].shape} in the model")
        else:
            result[name], fates[name] = found, "loaded"
    offenders += [f"'{weights.keys[name]}' {array.shape} has no place in the model" for name, array in arrays.items()]
    if offenders:
        raise InputError(
            f"{weights.source} does not fit this {model_name}; {len(offenders)} offenders: {'; '.join(offenders)}"
        )
    print("\n".join(summarize(weights.source, result, fates, ignored)), file=sys.stderr)
    return traverse_util.unflatten_dict({name: result[name] for name in wanted}, sep="/")


def summarize(source: str, result: Arrays, fates: dict[str, str], ignored: dict[str, str]) -> list[str]:
    """Returns a line for every group of variables that went the same way, and for every group of ignored arrays."""
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, fate in fates.items():
        groups.setdefault((_group(name.partition("/")[2]), fate), []).append(result[name])
    reasons: dict[tuple[str, str], int] = {}
    for key, reason in ignored.items():
        group = (_group(key), f"ignored: {reason.partition(' (')[0]}")
        reasons[group] = reasons.get(group, 0) + 1
    lines = [f"weights from {source}:"]
    for (group, fate), arrays in groups.items():
        lines.append(f"  {group}: {fate} ({len(arrays)} arrays, {sum(a.size for a in arrays):,} values)")
    lines += [f"  {group}: {reason} ({count} arrays)" for (group, reason), count in reasons.items()]
    return lines


def _group(name: str) -> str:
    """Returns the first parts of a name, the number of a layer or unit as `*`."""
    parts = re.split(r"[/.]", name)
    depth = 2 if parts[0] in ("Transformer", "opt", "params") and len(parts) > 2 else 1
    return re.sub(r"_\d+$", "_*", "/".join(parts[:depth]))
