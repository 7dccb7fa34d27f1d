"""Configs of training runs: one record per field, the checks, and derived values."""

from animesion_jax.config.build import default_config, flatten, from_tree, stage, to_tree
from animesion_jax.config.changes import changes_result, may_change
from animesion_jax.config.checks import check, check_values
from animesion_jax.config.derived import resolve, stage_configs
from animesion_jax.config.fields import FIELDS

__all__ = [
    "FIELDS", "changes_result", "check", "check_values", "default_config", "flatten", "from_tree", "may_change",
    "resolve", "stage", "stage_configs", "to_tree",
]  # fmt: skip
