"""Configs made from the records of `fields.py`."""

from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from animesion_jax.config.fields import FIELDS, Field
from animesion_jax.errors import InputError

STAGE_FIELDS = {name: field for name, field in FIELDS.items() if field.in_stage}


def default_config() -> ml_collections.ConfigDict:
    """Returns the default config, locked: a misspelt field fails."""
    config = ml_collections.ConfigDict()
    for name, field in FIELDS.items():
        _add(config, name, _nullable(field.default, field.kind) if field.kind else field.default)
    config.stages = (stage(),)
    return config.lock()


def stage(**overrides: Any) -> ml_collections.ConfigDict:
    """Returns an entry of config.stages, locked.

    Args:
      **overrides: values of the fields that the stage changes; fields of a section as a dict, such as
        `augment={"flip": 0.0}`.

    Raises:
      InputError: a stage has no such field, or the value has another type.
    """
    made = ml_collections.ConfigDict()
    for name, field in STAGE_FIELDS.items():
        _add(made, name, _nullable(None, _kind(field)))
    made.lock()
    _set(made, dict(_leaves(overrides)), "stage")
    return made


def from_tree(tree: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Returns the config of a nested dict as `to_json` writes it, with the types of `default_config`, locked.

    Raises:
      InputError: a field is missing, unknown or of another type.
    """
    values = dict(_leaves({name: value for name, value in tree.items() if name != "stages"}))
    if missing := sorted(FIELDS.keys() - values.keys() - ({"stages"} & tree.keys())):
        raise InputError(f"the config has no field '{missing[0]}'; allowed: one with every field of config/fields.py")
    config = default_config()
    _set(config, values, "config")
    stages = tree["stages"]
    if not isinstance(stages, list | tuple) or not all(isinstance(each, Mapping) for each in stages):
        raise InputError(f"config.stages is {stages!r}; allowed: a list of stages")
    config.stages = tuple(stage(**each) for each in stages)
    return config


def to_tree(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns a config as a nested dict, as in config.json except that tuples stay tuples."""
    return config.to_dict() | {"stages": tuple(each.to_dict() for each in config.stages)}


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a nested dict by the names that the command line gives them, lists as tuples.

    A stage has the fields that it overrides, such as "stages[1].epochs"; "stages" is their number.
    """
    flat = {name: value for name, value in _leaves(tree) if name != "stages"}
    if "stages" in tree:
        flat["stages"] = len(tree["stages"])
    for index, each in enumerate(tree.get("stages", ())):
        flat |= {f"stages[{index}].{name}": value for name, value in _leaves(each) if value is not None}
    return flat


def _add(config: ml_collections.ConfigDict, name: str, value: Any) -> None:
    section, _, leaf = name.rpartition(".")
    if section and section not in config:
        config[section] = ml_collections.ConfigDict()
    (config[section] if section else config)[leaf] = value


def _nullable(value: Any, kind: type) -> config_dict.FieldReference:
    """Returns a field that may be None and still has a type."""
    return config_dict.FieldReference(value, field_type=kind)


def _kind(field: Field) -> type:
    return field.kind or type(field.default)


def _set(config: ml_collections.ConfigDict, values: Mapping[str, Any], owner: str) -> None:
    for name, value in values.items():
        known = FIELDS if owner == "config" else STAGE_FIELDS
        if name not in known:
            raise InputError(f"unknown field '{name}' of a {owner}; allowed: {', '.join(known)}")
        section, _, leaf = name.rpartition(".")
        kind, nullable = _kind(known[name]), owner == "stage" or known[name].kind is not None
        try:
            if value is None and not nullable:
                raise TypeError("null")
            (config[section] if section else config)[leaf] = value
        except TypeError as error:
            raise InputError(f"{owner}.{name} is {value!r}; allowed: a value of type {kind.__name__}") from error


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, tuple(value) if isinstance(value, list) else value
