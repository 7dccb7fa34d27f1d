"""The check that a file's arrays and a model's variables are of the same model, with the same options."""

from collections.abc import Mapping

import numpy as np

from animesion_jax.errors import InputError
from animesion_jax.models import FAMILIES


def check(source: str, found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    """Raises InputError when the arrays that were found in `source` are of another model, or have other options."""
    file, model = _identify(found), _identify(wanted)
    if file and model and file != model:
        raise InputError(f"{source} holds {file}, the model is {model}; give weights of {model}, or train {file}")
    for family in FAMILIES.values():
        theirs, ours = family.read_options(found), family.read_options(wanted)
        for option in theirs.keys() & ours.keys():
            value = theirs[option]
            # A file may have an optional module that the model lacks; `merge` leaves it out.
            if value != ours[option] and not (option in family.optional and value):
                raise InputError(
                    f"{source} has {option}={value!r}, the model {option}={ours[option]!r}; set "
                    f"--config.{family.name}.{option}={value}, or {option}={value!r} in create_model"
                )


def _identify(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Returns the name of the model that arrays belong to, or a description; None where no family knows them."""
    return next(filter(None, (family.identify(arrays) for family in FAMILIES.values())), None)
