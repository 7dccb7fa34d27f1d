import importlib
import itertools
import re
import shlex

import jax
import numpy as np
import pytest

from animesion_jax.cli.train import parse_args
from animesion_jax.models import MODELS, abstract_variables, family_of
from animesion_jax.paper import SHORT_NAMES, TABLES
from animesion_jax.training import optim, steps
from animesion_jax.workdir import run
from tests.conftest import ROOT

ROWS = [(table, model, pretrained) for table in TABLES for model, pretrained in table.rows]
HIDDEN = {
    "shallownet": 512, "resnet18": 512, "resnet152": 2048, "vit_b16": 768, "vit_b32": 768, "vit_l16": 1024,
    "vit_l32": 1024,
}  # fmt: skip


def _module(table):
    return importlib.import_module(table.config.removesuffix(".py").replace("/", "."))


def test_the_paper_has_34_rows():
    assert len(ROWS) == 34


@pytest.mark.parametrize(
    ("table", "model", "pretrained"), ROWS, ids=[f"{t.number}-{m}-{'pre' if p else 'raw'}" for t, m, p in ROWS]
)
def test_every_row_builds_its_model_optimizer_and_schedule(table, model, pretrained):
    config = _module(table).get_config(f"{model},pretrained" if pretrained else model)
    run.check_config(config)
    assert (config.batch_size, config.epochs, config.image_size) == {
        1: (64, 50, 128), 2: (64, 200, 128), 3: (1024, 200, 224), 4: (1024, 200, 224)
    }[table.number]  # fmt: skip
    variables = abstract_variables(run.build_model(config, table.num_classes, steps.AXIS), config.image_size)
    params = variables["params"]
    assert params["head"]["kernel"].shape == (HIDDEN[model], table.num_classes)
    assert bool(config.pretrained) == pretrained

    # facts.md: divided by 3 after every 20 epochs of 50, after every 50 of 200.
    images = {"dafre": 322_947, "moeimouto": 10_000}[table.dataset]
    schedule = optim.make_schedule(config, images // config.batch_size)
    every = 20 if config.epochs == 50 else 50
    for epoch in range(0, config.epochs, 10):
        rate = schedule(epoch * (images // config.batch_size))
        np.testing.assert_allclose(rate, 1e-3 / 3 ** (epoch // every), rtol=1e-6)

    state = steps.abstract_state(variables, optim.make_optimizer(config, schedule), config.trainable)
    trained = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    # Pretrained ResNets are frozen but for a new classifier; everything else is trained whole.
    if pretrained and model.startswith("resnet"):
        assert trained == (HIDDEN[model] + 1) * table.num_classes
    else:
        assert trained == sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.number)
def test_a_config_file_says_the_papers_figures_and_a_command_that_works(table):
    text = _module(table).__doc__
    found = {}
    for short, model, figures in re.findall(r"^ {4}(\S+) +(\w+) +(\d.*)$", text, re.MULTILINE):
        assert SHORT_NAMES[model] == short
        pairs = [tuple(map(float, pair.split(" / "))) for pair in re.split(r" {2,}", figures)]
        found |= {(model, pretrained): pair for pretrained, pair in zip((False, True), pairs, strict=False)}
    assert found == table.rows
    (command,) = re.findall(r"^ {4}python -m animesion_jax\.main ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    arguments = shlex.split(command.replace("\\\n", ""))
    config = parse_args([argument.replace("configs/", f"{ROOT}/configs/") for argument in arguments]).config
    assert (config.model, True) in table.rows and config.pretrained


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.number)
def test_every_model_has_a_config_in_every_file(table):
    options = ("", ",pretrained", ",faithful", ",recipe=modern", ",pretrained,recipe=modern")
    for model, option in itertools.product(MODELS, options):
        if ",pretrained" in option and model not in family_of(model).weights:
            continue
        config = _module(table).get_config(model + option)
        run.check_config(config)
        run.build_model(config, table.num_classes)


def test_faithful_is_one_switch_for_what_the_papers_runs_did():
    for table in TABLES:
        ordinary, faithful = (_module(table).get_config(f"vit_b16{option}") for option in ("", ",faithful"))
        differing = {
            name: (ordinary[name], faithful[name])
            for name in ordinary
            if name != "vit" and ordinary[name] != faithful[name]
        }
        expected = {"eval_mode_after_epochs": (0, 1), "default_weights": ("best", "last")}
        if table.dataset == "moeimouto":
            expected |= {"held_out": (1 / 8, 0.0), "validation_split": ("held_out", "test")}
        assert differing == expected
        assert (ordinary.vit.gelu, ordinary.vit.dropout_places) == ("tanh", "google")
        assert (faithful.vit.gelu, faithful.vit.dropout_places) == ("erf", "animesion")


def test_the_modern_recipe_is_one_switch_for_ordinary_fields():
    ordinary, modern = (_module(TABLES[0]).get_config(f"resnet18{option}") for option in ("", ",recipe=modern"))
    assert (modern.optimizer, modern.schedule, modern.warmup_epochs) == ("sgd", "cosine", 5.0)
    # The best on validation may be from before the second stage.
    assert modern.rebalance_epochs > 0 and (ordinary.default_weights, modern.default_weights) == ("best", "last")
    # Data, model and length are the paper's.
    for name in ("dataset", "model", "image_size", "crop_margin", "epochs", "batch_size", "mean", "std", "resnet"):
        assert ordinary[name] == modern[name]
    vit, pretrained = (
        _module(TABLES[0]).get_config(f"vit_b16{option},recipe=modern") for option in ("", ",pretrained")
    )
    assert vit.optimizer == pretrained.optimizer == "adamw" and pretrained.learning_rate < vit.learning_rate
    assert _module(TABLES[0]).get_config("resnet18,pretrained,recipe=modern").trainable == "all"
    # Goyal et al. (2017): 0.1 for every 256 images of a batch.
    for size, table in ((64, TABLES[0]), (1024, TABLES[2])):
        config = _module(table).get_config("resnet18,recipe=modern")
        assert config.batch_size == size and config.learning_rate == pytest.approx(0.1 * size / 256)
    file = f"--config={ROOT}/configs/dafre_128.py:resnet18,recipe=modern"
    assert parse_args([file, "--workdir=w", "--config.mixup=0.7"]).config.mixup == 0.7
    with pytest.raises(ValueError, match="'recipe=modern' and 'faithful' exclude each other"):
        _module(TABLES[0]).get_config("resnet18,faithful,recipe=modern")
    with pytest.raises(ValueError, match=r"unknown option 'recipe=new'.*\[,recipe=modern\]"):
        _module(TABLES[0]).get_config("resnet18,recipe=new")


def test_unknown_options_are_named():
    for table in TABLES:
        with pytest.raises(ValueError, match=r"'fast'.*MODEL\[,pretrained\]\[,faithful\]"):
            _module(table).get_config("vit_b16,fast")
