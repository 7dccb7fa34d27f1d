import json

import pytest

from animesion_jax import config as configs
from animesion_jax.errors import InputError


def _typical():
    config = configs.default_config()
    config.mean, config.learning_rate, config.augment.flip = (0.25, 0.5, 0.75), None, 0.0
    config.stages = (configs.stage(), configs.stage(epochs=3, augment={"hue": 0.0}))
    return config


def test_default_config_is_locked():
    config = configs.default_config()
    for section in (config, config.vit, config.augment, config.stages[0], config.stages[0].augment):
        with pytest.raises(AttributeError):
            section.other = 1


def test_default_configs_share_no_state():
    first, second = configs.default_config(), configs.default_config()
    first.learning_rate, first.stages[0].epochs, first.augment.flip = 7.0, 7, 1.0
    assert (second.learning_rate, second.stages[0].epochs, second.augment.flip) == (1e-3, None, 0.5)


def test_default_config_null_field_keeps_its_type():
    config = configs.default_config()
    config.learning_rate = None
    with pytest.raises(TypeError):
        config.learning_rate = "fast"
    config.learning_rate = 1
    assert isinstance(config.learning_rate, float)
    with pytest.raises(TypeError):
        config.stages[0].epochs = "many"


def test_json_keeps_nulls_tuples_and_stages():
    written = json.loads(_typical().to_json())
    assert written["learning_rate"] is written["std"] is None
    assert [each["epochs"] for each in written["stages"]] == [None, 3]
    config = configs.from_tree(written)
    assert configs.to_tree(config) == configs.to_tree(_typical())
    assert config.mean == (0.25, 0.5, 0.75) and config.stages[1].augment.hue == 0.0
    with pytest.raises(AttributeError):
        config.stages[1].other = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree.pop("mixup"), "no field 'mixup'"),
        (lambda tree: tree.pop("stages"), "no field 'stages'"),
        (lambda tree: tree.update(other=1), "unknown field 'other' of a config; allowed: dataset, "),
        (lambda tree: tree.update(epochs="many"), "config.epochs is 'many'; allowed: a value of type int"),
        (lambda tree: tree.update(epochs=None), "config.epochs is None; allowed: a value of type int"),
        (lambda tree: tree.update(vit=3), "no field 'vit"),
        (lambda tree: tree["stages"][0].update(augment=5), "unknown field 'augment' of a stage; allowed: augment.flip"),
        (lambda tree: tree["stages"][0].update(epochs={"x": 1}), "unknown field 'epochs.x' of a stage"),
        (lambda tree: tree.update(stages=3), "config.stages is 3; allowed: a list of stages"),
        (lambda tree: tree.update(stages=[3]), r"config.stages is \[3\]; allowed: a list of stages"),
        (lambda tree: tree["stages"][0].update(seed=1), "unknown field 'seed' of a stage; allowed: augment.flip, "),
    ],
)
def test_from_tree_names_the_invalid_field(change, words):
    tree = json.loads(_typical().to_json())
    change(tree)
    with pytest.raises(InputError, match=words):
        configs.from_tree(tree)


def test_stage_names_a_value_of_another_type():
    with pytest.raises(InputError, match=r"stage\.epochs is 'many'; allowed: a value of type int"):
        configs.stage(epochs="many")


def test_flatten_names_fields_as_the_command_line_does():
    flat = configs.flatten(json.loads(_typical().to_json()))
    assert flat["augment.flip"] == 0.0 and flat["mean"] == (0.25, 0.5, 0.75) and flat["learning_rate"] is None
    stages = {name: value for name, value in flat.items() if name.startswith("stages")}
    assert stages == {"stages": 2, "stages[1].epochs": 3, "stages[1].augment.hue": 0.0}
    assert flat == configs.flatten(configs.to_tree(_typical()))
