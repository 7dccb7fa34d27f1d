"""timm's names of parameters, both ways, by the record `Family.timm`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.models import Family
from animesion_jax.pretrained.merge import Arrays, Fate, Weights
from animesion_jax.pretrained.torch_layout import LEAVES, TORCH_LEAVES, from_torch_layout, to_torch_layout

# A number in timm's name: the group of our name, and what is added to it, such as "{0}" and "{1:-1}".
NUMBER = re.compile(r"\{(\d)(?::(-?\d+))?\}")
GROUP = re.compile(r"\([^()]*\)")


def from_timm(weights: Weights, arrays: Mapping[str, np.ndarray], family: Family) -> None:
    """Adds the arrays of a state dict under our names and in our layout; unknown ones keep their own names.

    Buffers get a fate, and are not read.
    """
    inverse = list(_inverse(family))
    for key, array in arrays.items():
        path, _, leaf = key.rpartition(".")
        if re.fullmatch(family.timm.buffers, key):
            weights.fates.append(Fate(leaf, "left out: computed from the image size"))
        elif (leaf, array.ndim) in LEAVES and (module := _ours(inverse, path)):
            weights.add(LEAVES[leaf, array.ndim].format(module), key, from_torch_layout(array))
        elif parameter := _ours(inverse, key):
            weights.add(f"params/{parameter}", key, array)
        else:
            weights.add(key, key, array)


def to_timm(variables: Mapping[str, Any], family: Family) -> Arrays:
    """Returns a model's variables as timm's state dict; InputError for a module that timm's model lacks."""
    arrays = {}
    for name, array in traverse_util.flatten_dict(variables["params"], sep="/").items():
        path, _, leaf = name.rpartition("/")
        if leaf in TORCH_LEAVES:
            arrays[f"{_timm_name(family, path)}.{TORCH_LEAVES[leaf]}"] = to_torch_layout(array)
        else:
            arrays[_timm_name(family, name)] = array
    return arrays


class _Number(int):
    """A number that a format such as "{0:-1}" adds to."""

    def __format__(self, added: str) -> str:
        return str(self + int(added or 0))


def _timm_name(family: Family, name: str) -> str:
    for ours, theirs in family.timm.names:
        if found := re.fullmatch(ours, name):
            groups = (_Number(each) if each.isdigit() else each for each in found.groups())
            return theirs.format(*groups).replace("/", ".")
    raise InputError(f"timm's models have no counterpart of '{name}'; give --format=onnx")


def _inverse(family: Family) -> Iterator[tuple[re.Pattern, str, list[tuple[int, int]]]]:
    """Yields a pattern of timm's name, our name with a place for each group, and each number's group and addend."""
    for ours, theirs in family.timm.names:
        groups = GROUP.findall(ours)
        pattern, numbers, end = "", [], 0
        for found in NUMBER.finditer(theirs):
            group, added = int(found[1]), int(found[2] or 0)
            numbers.append((group, added))
            pattern += re.escape(theirs[end : found.start()]) + groups[group]
            end = found.end()
        yield re.compile(pattern + re.escape(theirs[end:])), GROUP.sub("{}", ours), numbers


def _ours(inverse: list[tuple[re.Pattern, str, list[tuple[int, int]]]], name: str) -> str | None:
    for pattern, ours, numbers in inverse:
        if found := pattern.fullmatch(name):
            values = {}
            for (group, added), text in zip(numbers, found.groups(), strict=True):
                values[group] = str(int(text) - added) if text.isdigit() else text.replace(".", "/")
            return ours.format(*(values[group] for group in sorted(values)))
    return None
