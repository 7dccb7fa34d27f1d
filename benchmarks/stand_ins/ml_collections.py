"""The part of ml_collections that the training step's config uses, for machines that lack ml_collections."""

import types
from collections.abc import Mapping
from typing import Any, Self


class ConfigDict(dict):
    """A nested dict whose keys are attributes too; "augment.flip" names a field of a section."""

    def __getitem__(self, name: str) -> Any:
        name, _, rest = name.partition(".")
        value = super().__getitem__(name)
        return value[rest] if rest else value

    def __setitem__(self, name: str, value: Any) -> None:
        section, _, leaf = name.rpartition(".")
        dict.__setitem__(self[section] if section else self, leaf, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    __setattr__ = __setitem__

    def lock(self) -> Self:
        """Returns itself; nothing is locked."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Returns a nested dict."""
        return {name: value.to_dict() if isinstance(value, ConfigDict) else value for name, value in self.items()}

    def update_from_flattened_dict(self, values: Mapping[str, Any]) -> None:
        """Sets fields by their names."""
        for name, value in values.items():
            self[name] = value


# `from ml_collections import config_dict`
config_dict = types.SimpleNamespace(FieldReference=lambda value, field_type: value)
