import functools
import importlib
import itertools
import re
import shlex

import jax
import numpy as np
import optax
import pytest

from animesion_jax.cli.train import parse_args
from animesion_jax.config import check, resolve, stage_configs
from animesion_jax.models import MODELS, abstract_variables, family_of
from animesion_jax.paper import SHORT_NAMES, TABLES
from animesion_jax.training import optim
from animesion_jax.training.state import create_state
from animesion_jax.workdir import run

ROWS = [(table, model, pretrained) for table in TABLES for model, pretrained in table.rows]
HIDDEN = {
    "shallownet": 512, "resnet18": 512, "resnet152": 2048, "vit_b16": 768, "vit_b32": 768, "vit_l16": 1024,
    "vit_l32": 1024,
}  # fmt: skip


def _module(table):
    return importlib.import_module(f"animesion_jax.configs.{table.config}")


@functools.cache
def _variables(model, image_size, num_classes):
    config = _module(TABLES[0]).get_config(model)
    config.image_size = image_size
    return abstract_variables(run.build_model(config, num_classes), image_size)


@pytest.mark.parametrize(
    ("table", "model", "pretrained"), ROWS, ids=[f"{t.number}-{m}-{'pre' if p else 'raw'}" for t, m, p in ROWS]
)
def test_every_row_builds_its_model_and_trains_its_parameters(table, model, pretrained):
    config = _module(table).get_config(f"{model},pretrained" if pretrained else model)
    check(config, family_of(config.model))
    assert (config.batch_size, config.epochs, config.image_size) == {
        1: (64, 50, 128), 2: (64, 200, 128), 3: (1024, 200, 224), 4: (1024, 200, 224)
    }[table.number]  # fmt: skip
    variables = _variables(model, config.image_size, table.num_classes)
    params = variables["params"]
    assert params["head"]["kernel"].shape == (HIDDEN[model], table.num_classes)
    assert bool(config.pretrained) == pretrained

    optimizer = optim.make_optimizer(resolve(config, family_of(model)), optax.constant_schedule(1e-3))
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer, config.trainable), variables)
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    # Pretrained ResNets are frozen except for a new classifier; all else is trained whole.
    if pretrained and model.startswith("resnet"):
        assert trained == (HIDDEN[model] + 1) * table.num_classes
    else:
        assert trained == sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.number)
def test_schedule_divides_by_three_after_20_of_50_or_50_of_200_epochs(table):
    config = _module(table).get_config("resnet18")
    steps = {"dafre": 322_947, "moeimouto": 10_000}[table.dataset] // config.batch_size
    schedule = optim.make_schedule(config, steps)
    every = 20 if config.epochs == 50 else 50
    for epoch in range(0, config.epochs, 10):
        np.testing.assert_allclose(schedule(epoch * steps), 1e-3 / 3 ** (epoch // every), rtol=1e-6)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.number)
def test_config_docstring_has_the_papers_figures_and_a_working_command(table):
    text = _module(table).__doc__
    found = {}
    for short, model, figures in re.findall(r"^ {4}(\S+) +(\w+) +(\d.*)$", text, re.MULTILINE):
        assert SHORT_NAMES[model] == short
        pairs = [tuple(map(float, pair.split(" / "))) for pair in re.split(r" {2,}", figures)]
        found |= {(model, pretrained): pair for pretrained, pair in zip((False, True), pairs, strict=False)}
    assert found == table.rows
    (command,) = re.findall(r"^ {4}animesion ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    config = parse_args(shlex.split(command.replace("\\\n", ""))).config
    assert (config.model, True) in table.rows and config.pretrained


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.number)
def test_every_file_has_a_config_for_every_model(table):
    options = ("", ",pretrained", ",faithful", ",recipe=modern", ",pretrained,recipe=modern")
    for model, option in itertools.product(MODELS, options):
        if ",pretrained" in option and model not in family_of(model).weights:
            continue
        config = _module(table).get_config(model + option)
        check(config, family_of(config.model))
        run.build_model(config, table.num_classes)


def test_faithful_sets_the_accidents_of_the_papers_runs_alone():
    for table in TABLES:
        ordinary, faithful = (_module(table).get_config(f"vit_b16{option}") for option in ("", ",faithful"))
        differing = {
            name: (ordinary[name], faithful[name])
            for name in ordinary
            if name not in ("vit", "shallownet") and ordinary[name] != faithful[name]
        }
        expected = {"eval_mode_after_epochs": (0, 1), "default_weights": ("best", "last")}
        if table.dataset == "moeimouto":
            expected |= {"held_out": (1 / 8, 0.0), "validation_split": ("held_out", "test")}
        assert differing == expected
        assert (ordinary.vit.gelu, ordinary.vit.dropout_places) == ("tanh", "google")
        assert (faithful.vit.gelu, faithful.vit.dropout_places) == ("erf", "animesion")
        assert (ordinary.shallownet.initializer, ordinary.vit.embedding_initializer) == ("xavier", "lecun")
        assert (faithful.shallownet.initializer, faithful.vit.embedding_initializer) == ("pytorch", "pytorch")


def test_modern_recipe_leaves_data_model_and_epochs_alone():
    ordinary, modern = (_module(TABLES[0]).get_config(f"resnet18{option}") for option in ("", ",recipe=modern"))
    for name in ("dataset", "model", "image_size", "crop_margin", "epochs", "batch_size", "mean", "std", "resnet"):
        assert ordinary[name] == modern[name]
    # The best weights by validation may be from before the second stage.
    assert (ordinary.default_weights, modern.default_weights) == ("best", "last")
    assert (len(ordinary.stages), len(modern.stages)) == (1, 2)


def test_modern_recipe_trains_a_pretrained_resnet_whole():
    config = _module(TABLES[0]).get_config("resnet18,pretrained,recipe=modern")
    assert [each.trainable for each in stage_configs(config, family_of("resnet18"))] == ["all", "head"]


@pytest.mark.parametrize(
    ("override", "learning_rate", "warmup"),
    [
        # Goyal et al. (2017): 0.1 for every 256 images of a batch.
        ("--config.batch_size=256", 0.1, 5.0),
        ("--config.epochs=14", 0.025, 1.4),
        ("--config.learning_rate=0.3", 0.3, 5.0),
        ("--config.warmup_epochs=0", 0.025, 0.0),
    ],
)
def test_modern_recipe_follows_overrides_of_the_command_line(override, learning_rate, warmup):
    config = parse_args([f"--config={TABLES[0].config}:resnet18,recipe=modern", "--workdir=w", override]).config
    first = stage_configs(config, family_of("resnet18"))[0]
    assert (first.learning_rate, first.warmup_epochs) == (pytest.approx(learning_rate), pytest.approx(warmup))


def test_modern_recipe_excludes_faithful():
    with pytest.raises(ValueError, match="'recipe=modern' and 'faithful' exclude each other"):
        _module(TABLES[0]).get_config("resnet18,faithful,recipe=modern")


def test_unknown_option_is_named():
    for table in TABLES:
        with pytest.raises(ValueError, match=r"unknown option 'fast'.*\[,faithful\]\[,recipe=modern\]"):
            _module(table).get_config("vit_b16,fast")
