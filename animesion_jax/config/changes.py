"""Which fields of a config change the result of a run."""

import re
from typing import Any

from animesion_jax.config.fields import FIELDS

STAGE_PREFIX = re.compile(r"stages\[(\d+)\]\.")


def changes_result(name: str, flat: dict[str, Any], family: Any = None) -> bool:
    """Returns whether the trained weights or their test accuracies depend on a field.

    Args:
      name: of the field, with dots, such as "vit.gelu" or "stages[1].epochs".
      flat: the config as `flatten` returns it.
      family: the `models.Family` of its model; None counts the fields of every family.
    """
    if found := STAGE_PREFIX.match(name):
        name, contexts = name[found.end() :], [_in_stage(flat, int(found.group(1)))]
    else:
        contexts = [_in_stage(flat, index) for index in range(flat["stages"])]
    rule = FIELDS[name].changes_result
    return rule if isinstance(rule, bool) else any(rule(context, family) for context in contexts)


def may_change(name: str, flat: dict[str, Any], family: Any = None) -> bool:
    """Returns whether a second start in the same workdir may change a field; arguments as in `changes_result`.

    It may test on another split. It may train for more epochs where the learning rate does not depend on their number
    and no other stage follows.
    """
    if name in ("epochs", "stages[0].epochs"):
        return flat["stages"] == 1 and _in_stage(flat, 0)["schedule"] == "piecewise"
    return name == "test_split" or not changes_result(name, flat, family)


def _in_stage(flat: dict[str, Any], index: int) -> dict[str, Any]:
    """Returns a flat config with the overrides of one of its stages."""
    prefix = f"stages[{index}]."
    return flat | {name.removeprefix(prefix): value for name, value in flat.items() if name.startswith(prefix)}
