"""The values that config fields allow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Allowed:
    """A set of values.

    Attributes:
      description: the values in words, for error messages.
      holds: returns whether a value is one of them.
    """

    description: str
    holds: Callable[[Any], bool]


def one_of(*names: str) -> Allowed:
    """Returns the named values."""
    return Allowed(", ".join(names), lambda value: value in names)


def _three_numbers(values: Sequence[Any], above: float) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value) and value > above]
    return len(values) == len(numbers) == 3


# The room that uses the value checks it: the data sets, splits, models and weights it can name are known there.
ANY = Allowed("any text", lambda value: True)
NAME = Allowed("a name", bool)
BOOL = Allowed("True, False", lambda value: value in (True, False))
AT_LEAST_0 = Allowed("0 or more", lambda value: value >= 0)
AT_LEAST_1 = Allowed("1 or more", lambda value: value >= 1)
POSITIVE = Allowed("a finite number, more than 0", lambda value: math.isfinite(value) and value > 0)
NOT_NEGATIVE = Allowed("a finite number, 0 or more", lambda value: math.isfinite(value) and value >= 0)
BELOW_1 = Allowed("0 up to less than 1", lambda value: 0 <= value < 1)
PROBABILITY = Allowed("a probability, 0 to 1", lambda value: 0 <= value <= 1)
MEANS = Allowed("three numbers", lambda value: _three_numbers(value, -math.inf))
DEVIATIONS = Allowed("three numbers above 0", lambda value: _three_numbers(value, 0.0))
STAGES = Allowed("one stage or more, made by animesion_jax.config.stage", bool)
