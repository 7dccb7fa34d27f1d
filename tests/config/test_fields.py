import ml_collections

from animesion_jax.config import FIELDS, default_config
from animesion_jax.models import FAMILIES
from animesion_jax.training import optim


def _names(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            yield from _names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_field_of_the_default_config_has_a_record():
    assert sorted(_names(default_config())) == sorted(FIELDS)


def test_every_record_has_a_comment_and_allows_its_default():
    for name, field in FIELDS.items():
        assert field.comment.strip() and field.allowed.description, name
        assert (field.default is None and field.kind) or field.allowed.holds(field.default), name


def test_every_option_of_a_family_is_a_field_and_its_default_is_allowed():
    config = default_config()
    for family in FAMILIES.values():
        for option, allowed in family.options.items():
            assert config[family.name][option] in allowed
    sections = {name.split(".")[0] for name in FIELDS if "." in name} - {"data", "augment"}
    assert sections == {family.name for family in FAMILIES.values() if family.options}


def test_allowed_names_are_those_that_training_knows():
    for name, table in (("optimizer", optim.OPTIMIZERS), ("schedule", optim.SCHEDULES)):
        allowed = FIELDS[name].allowed
        assert allowed.description == ", ".join(table) and all(map(allowed.holds, table))
        assert not allowed.holds("other")
