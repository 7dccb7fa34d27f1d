"""Merges a file's arrays into a model's variables, and reports how every array of both was used."""

import re
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from animesion_jax.errors import InputError, first_line, join_some, shorten
from animesion_jax.models import FAMILIES, HEAD, Positions, RelativePositions
from animesion_jax.pretrained import layouts, variants
from animesion_jax.pretrained.positions import resample_positions
from animesion_jax.pretrained.relative_positions import resample_relative_positions

CLASSIFIER = f"params/{HEAD}/"
FLOATS = ("float32", "float64", "float16", "bfloat16")
# Most arrays that an error names, per fault.
EXAMPLES = 3
# Longest shape in an error, in characters; numpy allows 64 dimensions.
MAX_SHAPE = 60

Arrays = dict[str, np.ndarray]


class Fate(NamedTuple):
    """A use of an array beside filling a variable: the array's name in the summary, the use, its number of values."""

    group: str
    fate: str
    size: int | None = None


@dataclass
class Weights:
    """The contents of a file under our names.

    Attributes:
      source: the file, for messages.
      arrays: float32 by "collection/module/.../leaf", as in our variables.
      keys: the file's own name of each array, refused ones included.
      fates: of the arrays that are folded into others, or are not weights.
      offenders: messages about arrays that cannot be used.
      changes: how arrays were changed, in words, by our names.
      class_names: names by class id of the file's classifier; None if the file has none.
      warning: about the weights that a bundle or run of ours started from, such as that they know the test images.
      joined_heads: whether the heads of attention kernels and biases are one axis, which `merge` splits.
      prefix: what was taken off the file's names.
      rule: how positions are resampled for another grid, a key of `positions.RULES`.
    """

    source: str
    arrays: Arrays = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    fates: list[Fate] = field(default_factory=list)
    offenders: list[str] = field(default_factory=list)
    changes: dict[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    warning: str = ""
    joined_heads: bool = False
    prefix: str = ""
    rule: str = "google"

    def add(self, name: str, key: str, array: Any) -> None:
        """Adds an array under our name; an offender if its values are not finite floats or the name is taken."""
        if name in self.keys:
            both = f"{_show(self.keys[name])} and {_show(key, array)}"
            self.offenders.append(f"{both} both stand for {_show(name)}")
            return
        self.keys[name] = key
        if not isinstance(array, np.ndarray):
            self.offenders.append(f"{_show(key)} is {type(array).__name__}, not an array")
        elif array.dtype.name not in FLOATS:
            self.offenders.append(f"{_show(key, array)} is {array.dtype}, not {', '.join(FLOATS)}")
        elif not (np.abs(array) <= np.finfo(np.float32).max).all():
            self.offenders.append(f"{_show(key, array)} has values that are not finite in float32")
        else:
            self.arrays[name] = array.astype(np.float32, copy=False)


def damaged(file: Any, form: str, error: BaseException) -> InputError:
    """Returns the error for a file that cannot be read as a `form` such as ".npz"."""
    return InputError(
        f"{file} is damaged or not a {form} ({first_line(error)}); replace it, or delete it if it was downloaded there"
    )


def merge(weights: Weights, model_name: str, variables: dict[str, Any], keep_head: bool) -> dict[str, Any]:
    """Returns the variables with the file's arrays, and prints to stderr how every group of both was used.

    Args:
      weights: the file.
      model_name: for messages.
      variables: the model's; only their shapes are read, and the values of a classifier that is not in the file.
      keep_head: whether a classifier of the same shape is kept.

    Raises:
      InputError: the file is of another layout or model, or arrays are missing, left over or of another shape; names
        the first of each and counts the others.
    """
    wanted = traverse_util.flatten_dict(variables, sep="/")
    variants.check(weights.source, weights.arrays, wanted)
    arrays, others = _leave_out(weights, wanted, keep_head)
    new_head = not any(name.startswith(CLASSIFIER) for name in arrays)

    result, fates, missing, reshaped = {}, {}, [], []
    for name, variable in wanted.items():
        array, shape = arrays.get(name), variable.shape
        if weights.joined_heads and array is not None and variants.are_joined(array, shape):
            array = array.reshape(shape)
        if new_head and name.startswith(CLASSIFIER):
            is_abstract = isinstance(variable, jax.ShapeDtypeStruct)
            result[name] = np.zeros(shape, np.float32) if is_abstract else np.asarray(variable, np.float32)
            fates[name] = "re-initialised" if result[name].any() else "re-initialised to zero"
        elif array is not None and array.shape == shape:
            result[name], fates[name] = array, "loaded"
        elif array is not None and (resampled := _resample(weights, name, array, wanted)):
            result[name], fates[name] = resampled
        elif array is not None:
            reshaped.append(f"{_show(weights.keys[name], array)} for {_show_shape(variable)}")
        elif name not in weights.keys:  # otherwise it is an offender already
            missing.append(_show(name, variable))
    for name in weights.changes.keys() & fates.keys():
        fates[name] += f", {weights.changes[name]}"
    surplus = [_show(weights.keys[name], array) for name, array in arrays.items() if name not in wanted]
    faults = {
        "Not in the file": missing,
        "Not in the model": surplus,
        "Of another shape": reshaped,
        "Not usable": weights.offenders,
    }
    if any(faults.values()):
        raise _misfit(weights, model_name, faults)
    print("\n".join(_summarize(weights, result, fates, others)), file=sys.stderr)
    return traverse_util.unflatten_dict(result, sep="/")


def _resample(weights: Weights, name: str, array: np.ndarray, wanted: dict[str, Any]) -> tuple[np.ndarray, str] | None:
    """Returns a position table for the model's grid and its fate; None for other arrays and other widths."""
    shape = wanted[name].shape
    for positions in (family.positions for family in FAMILIES.values()):
        match positions:
            case Positions() if name == positions.table and array.ndim == 3 and array.shape[::2] == shape[::2]:
                has_token = positions.class_token in wanted
                table = resample_positions(weights.source, array, shape[1], has_token, weights.rule)
                return table, f"resampled, {array.shape[1]} to {shape[1]} tokens"
            case RelativePositions() if (
                re.fullmatch(positions.tables, name) and array.ndim == 2 and array.shape[1] == shape[1]
            ):
                table = resample_relative_positions(weights.source, array, shape[0])
                return table, f"resampled, {array.shape[0]} to {shape[0]} positions"
    return None


def _misfit(weights: Weights, model_name: str, faults: dict[str, list[str]]) -> InputError:
    """Returns the error that lists arrays by fault, after the shared prefix of an unknown layout."""
    layout = layouts.identify(weights.keys.values())
    has = "" if layout.name or layouts.READ_PREFIX.fullmatch(layout.prefix) else f"has {layout} and "
    named = [f"{fault}: {join_some(texts, EXAMPLES, '; ')}. " for fault, texts in faults.items() if texts]
    count = sum(map(len, faults.values()))
    return InputError(
        f"{weights.source} {has}does not fit this {model_name}, in {count:,} arrays. {''.join(named)}Give weights of "
        "the same model, in a layout of docs/models.md"
    )


def _show(name: str, array: Any = None) -> str:
    """Returns a name and a shape for a message, such as "'cls' (1, 1, 768)"."""
    return f"'{shorten(name, layouts.MAX_NAME)}'" + ("" if array is None else f" {_show_shape(array)}")


def _show_shape(array: Any) -> str:
    return shorten(str(np.shape(array)), MAX_SHAPE)


def _leave_out(weights: Weights, wanted: dict[str, Any], keep_head: bool) -> tuple[Arrays, list[Fate]]:
    """Returns the file's arrays that the model takes, and the fates of all others."""
    reasons = {}
    head = weights.arrays.get(f"{CLASSIFIER}kernel")
    if not (keep_head and head is not None and head.shape == wanted[f"{CLASSIFIER}kernel"].shape):
        reasons[CLASSIFIER] = f"the file's classifier {'' if head is None else head.shape}"
    for module in (module for family in FAMILIES.values() for module in family.optional):
        if not any(name.startswith(f"params/{module}/") for name in wanted):
            reasons[f"params/{module}/"] = f"the model has no {module}"
    kept, others = {}, list(weights.fates)
    for name, array in weights.arrays.items():
        reason = next((reason for prefix, reason in reasons.items() if name.startswith(prefix)), None)
        if reason is None:
            kept[name] = array
        else:
            others.append(Fate(group_of(name), f"left out: {reason}", array.size))
    return kept, others


def _summarize(weights: Weights, result: Arrays, fates: dict[str, str], others: list[Fate]) -> list[str]:
    """Returns the lines of a table: groups of variables, then of other arrays, each with how it was used."""
    sizes: dict[tuple[str, str], list[int | None]] = {}
    for name, array in result.items():
        sizes.setdefault((group_of(name), fates[name]), []).append(array.size)
    for each in others:
        sizes.setdefault((each.group, each.fate), []).append(each.size)
    width = max(len(group) for group, _ in sizes)
    prefix = f", names without '{weights.prefix}'" if weights.prefix else ""
    lines = [f"weights from {weights.source}{prefix}:", f"  {'':{width}}  arrays       values"]
    for (group, fate), counts in sizes.items():
        values = "not read" if None in counts else f"{sum(counts):,}"
        lines.append(f"  {group:{width}}  {len(counts):6}  {values:>11}  {fate}")
    return lines


def group_of(name: str) -> str:
    """Returns a variable's module up to its first number: "Transformer/encoderblock_*", "layer1_*", "head"."""
    parts = name.split("/")[1:]
    module = parts[:-1] or parts
    numbered = (place for place, part in enumerate(module, start=1) if part[-1:].isdigit())
    return re.sub(r"_\d+$", "_*", "/".join(module[: next(numbered, len(module))]))
