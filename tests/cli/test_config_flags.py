import re
import sys

import pytest

from animesion_jax.cli.config_flags import load_config
from animesion_jax.errors import InputError
from tests.conftest import ROOT

MODERN = f"{ROOT}/configs/dafre_128.py:resnet18,recipe=modern"
SWEEP = f"{ROOT}/configs/sweep_size.py:shallownet"
# A user's config that builds on a packaged one.
OWN_CONFIG = """
from animesion_jax.configs import dafre_128

def get_config(argument):
    config = dafre_128.get_config(argument)
    config.epochs = 7
    return config
"""


def _file(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(text)
    return str(path)


def test_overrides_set_fields_of_every_type():
    overrides = [
        "epochs=7",
        "learning_rate=0.5",
        "mean=(0.1,0.2,0.3)",
        "skip_broken",
        "augment.hue=0",
        "model=resnet34",
    ]
    config = load_config(MODERN, [f"--config.{override}" for override in overrides])
    assert (config.epochs, config.learning_rate, config.mean) == (7, 0.5, (0.1, 0.2, 0.3))
    assert (config.skip_broken, config.augment.hue) == (True, 0.0)
    assert config.is_locked and config.warmup_epochs is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["--config.folder"],
        ["--config.folder", "--config.epochs=3"],
        ["--config.epochs=3", "--config.mean"],
        ["--config.stages[0].epochs"],
    ],
)
def test_load_config_names_the_field_without_a_value(overrides):
    (flag,) = [each for each in overrides if "=" not in each]
    with pytest.raises(InputError, match=rf"^{re.escape(flag)} has no value; allowed: {re.escape(flag)}=VALUE$"):
        load_config(MODERN, overrides)


def test_load_config_takes_a_value_from_the_next_argument():
    overrides = ["--config.seed", "7", "--config.folder", "-x", "--config.skip_broken", "--config.epochs", "3"]
    config = load_config(MODERN, overrides)
    assert (config.seed, config.folder, config.skip_broken, config.epochs) == (7, "-x", True, 3)


def test_load_config_sets_a_boolean_to_false_by_noconfig():
    assert load_config(MODERN, ["--config.skip_broken", "--noconfig.skip_broken"]).skip_broken is False


def test_overrides_set_fields_of_a_stage():
    config = load_config(MODERN, ["--config.stages[1].epochs=5", "--config.stages[0].augment.flip=0"])
    assert [stage.epochs for stage in config.stages] == [None, 5]
    assert (config.stages[0].augment.flip, config.epochs) == (0.0, 50)
    # Another load starts from the defaults again.
    assert load_config(MODERN).stages[1].epochs == 10


def test_overrides_set_fields_of_a_sweep():
    config = load_config(SWEEP, ["--config.grid.batch_size=(8,16)", "--config.base.data_dir=data"])
    assert (config.grid.batch_size, config.base.data_dir) == ((8, 16), "data")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bach_size=3", "unknown config field 'bach_size', did you mean batch_size?"),
        ("stages[2].epochs=5", "unknown config field 'stages[2].epochs', did you mean stages[1].epochs?"),
        ("[=1", "unknown config field '['"),
        ("stages=3", "config.stages has fields of its own; set one of them, such as --config.stages[0].augment."),
        ("vit=3", "config.vit has fields of its own; set one of them, such as --config.vit.class_token=VALUE"),
        ("epochs=many", "--config.epochs=many: "),
        ("stages[1].epochs=many", "--config.stages[1].epochs=many: "),
    ],
)
def test_load_config_reports_a_bad_override_in_one_line(override, message):
    with pytest.raises(InputError) as caught:
        load_config(MODERN, [f"--config.{override}"])
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(:", ".py: invalid syntax"),
        ("import no_such_module\ndef get_config(): pass", ".py, line 1: No module named 'no_such_module'"),
        ("def get_config(): raise ValueError('no config today')", ".py, line 1: no config today"),
        ("def get_config():\n return nothing", ".py, line 2: name 'nothing' is not defined"),
        ("def get_config():\n pass", "get_config returns NoneType; allowed: a ConfigDict"),
        (
            "from animesion_jax.config import default_config\ndef get_config():\n default_config().epoch = 3",
            '.py, line 3: Key "epoch" does not exist',
        ),
    ],
)
def test_load_config_reports_a_faulty_config_file_in_one_line(text, words, tmp_path):
    with pytest.raises(InputError) as caught:
        load_config(_file(tmp_path, text))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_load_config_of_a_missing_file_names_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=rf"no config file none\.py in {tmp_path}; allowed: a Python file, or common, "
    ):
        load_config("none.py")


def test_name_finds_the_users_file_first_then_the_packages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("dafre_128:resnet34").model == "resnet34"
    assert not load_config("folder:vit_s16").pretrained
    own = tmp_path / "configs" / "dafre_128.py"
    own.parent.mkdir()
    own.write_text(OWN_CONFIG, encoding="utf-8")
    for name in ("dafre_128:resnet34", "configs/dafre_128.py:resnet34", f"{own}:resnet34"):
        config = load_config(name)
        assert (config.model, config.epochs, config.batch_size) == ("resnet34", 7, 64)


def test_config_file_imports_its_neighbours_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    mine = tmp_path / "experiments" / "mine.py"
    mine.parent.mkdir()
    mine.write_text("from experiments import base\n" + OWN_CONFIG.replace("7", "base.EPOCHS"), encoding="utf-8")
    (mine.parent / "base.py").write_text("EPOCHS = 9\n", encoding="utf-8")
    assert load_config(f"{mine}:resnet18").epochs == 9


@pytest.mark.parametrize("name", ["paper_recipe", "configs/paper_recipe.py", "README.md"])
def test_load_config_names_a_file_that_is_no_config(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=r"no (function get_config|config 'README.md'); allowed: common, "):
        load_config(name)


def test_configs_of_a_package_that_is_not_installed_are_reported_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"the configs of animesion_jax are not installed; .* pip install -e \.$"):
        load_config("demo")


def test_config_file_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(ROOT))
    assert load_config("~/configs/dafre_128.py:resnet18").model == "resnet18"
