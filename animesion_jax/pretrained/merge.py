"""Puts the arrays of a file into a model's variables, and accounts for every one of both."""

import re
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from animesion_jax.errors import InputError, first_line
from animesion_jax.models import FAMILIES, HEAD
from animesion_jax.pretrained import variants
from animesion_jax.pretrained.positions import resample_positions

CLASSIFIER = f"params/{HEAD}/"
FLOATS = ("float32", "float64", "float16", "bfloat16")

Arrays = dict[str, np.ndarray]


class LeftOut(NamedTuple):
    """Why an array of a file is not used; those of one group and reason share a line of the summary."""

    group: str
    reason: str
    size: int | None = None  # number of values; None for an array that was not read


@dataclass
class Weights:
    """What a file holds, under our names.

    Attributes:
      source: the file, for messages.
      arrays: float32 by "collection/module/.../leaf", as in our variables.
      keys: the file's own name for each of them, and for what was refused.
      left_out: what the reader knows to be no weights, by the file's names.
      offenders: what is wrong with single arrays, in words.
      class_names: names by class id of the file's classifier; None where the file does not say.
    """

    source: str
    arrays: Arrays = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    offenders: list[str] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None

    def add(self, name: str, key: str, array: Any) -> None:
        """Adds an array of the file under our name; an offender if it holds no finite floats or its name is taken."""
        if name in self.keys:
            self.offenders.append(f"'{self.keys[name]}' and '{key}' {np.shape(array)} both stand for '{name}'")
            return
        self.keys[name] = key
        if not isinstance(array, np.ndarray):
            self.offenders.append(f"'{key}' is no array but {type(array).__name__}")
        elif array.dtype.name not in FLOATS:
            self.offenders.append(f"'{key}' {array.shape} is {array.dtype}, not one of {', '.join(FLOATS)}")
        elif not (np.abs(array) <= np.finfo(np.float32).max).all():
            self.offenders.append(f"'{key}' {array.shape} holds values that are no float32 numbers")
        else:
            self.arrays[name] = array.astype(np.float32, copy=False)


def damaged(file: Any, form: str, error: BaseException) -> InputError:
    """Returns the error for a file that cannot be read as a `form` such as ".npz"."""
    return InputError(
        f"{file} is damaged or no {form} ({first_line(error)}); replace it, or if it was downloaded there, delete it"
    )


def merge(weights: Weights, model_name: str, variables: dict[str, Any], keep_head: bool) -> dict[str, Any]:
    """Returns the variables with the file's arrays; prints to stderr what became of every group of both.

    Raises:
      InputError: the file is of another model, or arrays are missing, left over or of another shape; names them all.
    """
    wanted = traverse_util.flatten_dict(variables, sep="/")
    variants.check(weights.source, weights.arrays, wanted)
    arrays, left_out = dict(weights.arrays), dict(weights.left_out)
    result: Arrays = {}
    fates: dict[str, str] = {}

    def leave_out(prefix: str, reason: str) -> None:
        for name in [name for name in arrays if name.startswith(prefix)]:
            left_out[weights.keys[name]] = LeftOut(group_of(name), reason, arrays.pop(name).size)

    head = arrays.get(f"{CLASSIFIER}kernel")
    if not (keep_head and head is not None and head.shape == wanted[f"{CLASSIFIER}kernel"].shape):
        for name in (name for name in wanted if name.startswith(CLASSIFIER)):
            result[name], fates[name] = np.zeros(wanted[name].shape, np.float32), "re-initialised to zero"
        leave_out(CLASSIFIER, f"the file's classifier {'' if head is None else head.shape}")
    for module in (module for family in FAMILIES.values() for module in family.optional):
        if not any(name.startswith(f"params/{module}/") for name in wanted):
            leave_out(f"params/{module}/", f"the model has no {module}")
    for table, class_token in filter(None, (family.positions for family in FAMILIES.values())):
        if variants.has_other_grid(table, arrays, wanted):
            old, tokens = arrays.pop(table), wanted[table].shape[1]
            result[table] = resample_positions(weights.source, old, tokens, has_token=class_token in wanted)
            fates[table] = f"resampled, {old.shape[1]} to {tokens} tokens"

    offenders = list(weights.offenders)
    for name in (name for name in wanted if name not in fates):
        found = arrays.pop(name, None)
        if found is None:
            if name not in weights.keys:  # else it was refused
                offenders.append(f"'{name}' {wanted[name].shape} is not in the file")
        elif found.shape != wanted[name].shape:
            offenders.append(f"'{weights.keys[name]}' is {found.shape} in the file, {wanted[name].shape} in the model")
        else:
            result[name], fates[name] = found, "loaded"
    offenders += [f"'{weights.keys[name]}' {array.shape} has no place in the model" for name, array in arrays.items()]
    if offenders:
        raise InputError(
            f"{weights.source} does not fit this {model_name}, in {len(offenders)} arrays: {'; '.join(offenders)}"
        )
    result = {name: result[name] for name in wanted}
    print("\n".join(summarize(weights.source, result, fates, left_out)), file=sys.stderr)
    return traverse_util.unflatten_dict(result, sep="/")


def summarize(source: str, result: Arrays, fates: dict[str, str], left_out: dict[str, LeftOut]) -> list[str]:
    """Returns a table: a line for every group of variables, then of the file's other arrays, that went the same way."""
    sizes: dict[tuple[str, str], list[int | None]] = {}
    for name, array in result.items():
        sizes.setdefault((group_of(name), fates[name]), []).append(array.size)
    for each in left_out.values():
        sizes.setdefault((each.group, f"left out: {each.reason}"), []).append(each.size)
    width = max(len(group) for group, _ in sizes)
    lines = [f"weights from {source}:", f"  {'':{width}}  arrays       values"]
    for (group, fate), counts in sizes.items():
        values = "not read" if None in counts else f"{sum(counts):,}"
        lines.append(f"  {group:{width}}  {len(counts):6}  {values:>11}  {fate}")
    return lines


def group_of(name: str) -> str:
    """Returns a variable's module up to its first number: "Transformer/encoderblock_*", "layer1_*", "head"."""
    parts = name.split("/")[1:]
    module = parts[:-1] or parts
    numbered = (place for place, part in enumerate(module, start=1) if part[-1].isdigit())
    return re.sub(r"_\d+$", "_*", "/".join(module[: next(numbered, len(module))]))
