"""The check that a file's arrays and a model's variables are of the same model, with the same options."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from animesion_jax.errors import InputError
from animesion_jax.models import FAMILIES, MODELS, Family


def check(source: str, found: Mapping[str, np.ndarray], wanted: Mapping[str, Any]) -> None:
    """Raises InputError when the arrays that were found in `source` are of another model, or have other options.

    Where the file joins the heads of attention kernels in one axis, their number is not compared.
    """
    compared = {
        name: found[name] if name in found and are_joined(found[name], variable.shape) else variable
        for name, variable in wanted.items()
    }
    file, model = _identify(found), _identify(compared)
    if file and model and file != model:
        instead = f", or train {file}" if file in MODELS else ""
        raise InputError(f"{source} holds {file}, the model is {model}; give weights of {model}{instead}")
    for family in FAMILIES.values():
        theirs, ours = family.read_options(found), family.read_options(wanted)
        options = [
            option
            for option, value in theirs.items()
            # A file may have an optional module that the model lacks; `merge` leaves it out.
            if value != ours.get(option, value) and not (option in family.optional and value)
        ]
        if options:
            of_file = ", ".join(f"{option}={theirs[option]!r}" for option in options)
            of_model = ", ".join(f"{option}={ours[option]!r}" for option in options)
            _check_allowed(source, family, {option: theirs[option] for option in options})
            # Give the options that agree as well: their defaults may depend on those that are set.
            given = {option: value for option, value in theirs.items() if option not in family.optional or not value}
            flags = " ".join(f"--config.{family.name}.{option}={value}" for option, value in given.items())
            raise InputError(f"{source} has {of_file}, the model {of_model}; set {flags}, or the same in create_model")


def _check_allowed(source: str, family: Family, options: Mapping[str, Any]) -> None:
    """Raises InputError for an option that no model of the family can have."""
    for option, value in options.items():
        if value not in (allowed := family.options[option]):
            raise InputError(
                f"{source} has {option}={value}; allowed: {', '.join(map(str, allowed))}; give other weights"
            )


def are_joined(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Returns whether an array has a variable's values with heads joined, such as (D, D) for (D, heads, width)."""
    return array.ndim == len(shape) - 1 and array.size == math.prod(shape) and len(shape) in (2, 3)


def _identify(arrays: Mapping[str, Any]) -> str | None:
    """Returns the name of the model that arrays belong to, or a description; None where no family knows them."""
    return next(filter(None, (family.identify(arrays) for family in FAMILIES.values())), None)
