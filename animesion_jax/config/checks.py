"""Checks of a config's values, before anything is read or written."""

from typing import Any

import ml_collections

from animesion_jax.config.build import STAGE_FIELDS
from animesion_jax.config.derived import stage_configs
from animesion_jax.config.fields import FIELDS
from animesion_jax.errors import InputError


def check(config: ml_collections.ConfigDict, family: Any) -> None:
    """Raises InputError for the first field with an invalid value.

    Args:
      config: as `default_config` makes it.
      family: the `models.Family` of its model.
    """
    check_values(config)
    if config.dataset == "folder" and not config.folder:
        raise InputError("config.folder is ''; needed: the folder of your images, such as --config.folder=PATH")
    if config.detector and not config.folder:
        raise InputError(
            f"config.detector is '{config.detector}' without config.folder; needed: the folder of the whole pictures, "
            "such as --config.folder=PATH"
        )
    for each in stage_configs(config, family):
        _check_warmup(each)


def check_values(config: ml_collections.ConfigDict) -> None:
    """Raises InputError for the first field whose value is invalid by itself, whatever the model."""
    for name, field in FIELDS.items():
        if not (config[name] is None and field.kind):
            _check_value(f"config.{name}", config[name], field.allowed)
    for index, each in enumerate(config.stages):
        for name, field in STAGE_FIELDS.items():
            # A stage may have 0 epochs: it is skipped.
            if each[name] is not None and (name, each[name]) != ("epochs", 0):
                _check_value(f"config.stages[{index}].{name}", each[name], field.allowed)
    if all(each.epochs == 0 for each in config.stages):
        raise InputError("every stage of config.stages has 0 epochs; allowed: one with 1 or more")


def _check_value(name: str, value: Any, allowed: Any) -> None:
    if not allowed.holds(value):
        shown = f"'{value}'" if isinstance(value, str) else value
        raise InputError(f"{name} is {shown}; allowed: {allowed.description}")


def _check_warmup(config: ml_collections.ConfigDict) -> None:
    """Raises InputError unless a cosine has epochs left after its warm-up."""
    if config.schedule == "cosine" and config.warmup_epochs >= config.epochs:
        raise InputError(
            f"warmup_epochs {config.warmup_epochs:g} does not fit into epochs {config.epochs}; allowed: 0 up to less "
            f"than {config.epochs}, such as --config.warmup_epochs=0 or --config.stages[1].warmup_epochs=0"
        )
