import json

import jax
import pytest

from animesion_jax.config import resolve
from animesion_jax.configs import dafre_128, sweep_size
from animesion_jax.errors import InputError, Stopped
from animesion_jax.models import family_of
from animesion_jax.training import sweep as sweep_module
from animesion_jax.training.sweep import expand, sweep


def _config(toy_config, **grid):
    config = sweep_size.get_config("shallownet").unlock()
    config.base = toy_config
    config.base.epochs = 1
    config.grid = grid
    return config


@pytest.fixture
def ended(toy_config, tmp_path):
    """(a sweep of one run, that run's config and its workdir with results.json)."""
    config = _config(toy_config, batch_size=(64,))
    (each,) = expand(config).values()
    folder = tmp_path / "batch_size_64"
    folder.mkdir()
    (folder / "results.json").write_text("{}")
    return config, each, folder


def test_expand_makes_every_combination_and_scales_the_crop_margin():
    configs = expand(sweep_size.get_config("shallownet"))
    assert len(configs) == 5 * 3
    each = configs["batch_size_256-image_size_224-seed_0"]
    assert (each.image_size, each.batch_size, each.crop_margin, each.learning_rate) == (224, 256, 56, 1e-3)


@pytest.mark.parametrize(("scaling", "expected"), [("none", 1e-3), ("linear", 16e-3), ("sqrt", 4e-3)])
def test_expand_scales_the_learning_rate_by_batch_size(scaling, expected):
    config = sweep_size.get_config("shallownet")
    config.learning_rate_scaling = scaling
    config.scale_crop_margin = False
    configs = expand(config)
    assert configs["batch_size_1024-image_size_64-seed_0"].learning_rate == pytest.approx(expected)
    assert configs["batch_size_64-image_size_64-seed_0"].learning_rate == 1e-3
    assert {each.crop_margin for each in configs.values()} == {32}


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ({"batch_size": ()}, r"batch_size is \(\)"),
        ({"batch_size": ("many",)}, "'many'"),
        ({"augment": (0,)}, "'augment' in config.grid; allowed: dataset, "),
        ({"stages": (1,)}, "'stages' in config.grid"),
        ({"crop_margin": (4,)}, r"config\.grid has crop_margin; needed: --config\.scale_crop_margin=False"),
        ({"model": ("alexnet",)}, "unknown model 'alexnet'; allowed: shallownet"),
        ({"batch_size": (-1, 0)}, r"config\.batch_size is -1"),
        ({"image_size": (16, 8)}, "run image_size_8 of the sweep: image_size 8 is too small"),
        ({"batch_size": (64, 30)}, "run batch_size_30 of the sweep: batch_size 30 does not divide among 4"),
    ],
)
def test_bad_grid_fails_before_training(toy_config, tmp_path, grid, words):
    with pytest.raises(InputError, match=words):
        sweep(_config(toy_config, **grid), str(tmp_path / "sweep"))
    assert not (tmp_path / "sweep").exists()


def test_missing_validation_split_fails_before_training(toy_config, tmp_path):
    config = _config(toy_config, batch_size=(64,))
    config.base.validation_split = "val"
    with pytest.raises(InputError, match="run batch_size_64 of the sweep: toyfaces has no split 'val'"):
        sweep(config, str(tmp_path / "sweep"))


def test_failed_run_does_not_stop_the_others(toy_config, tmp_path, monkeypatch):
    """A config.json of another config without a checkpoint does not stop the sweep either."""
    tried = []

    def fake(each, folder, **_):
        tried.append(each.batch_size)
        if each.batch_size == 64:
            record = json.loads((tmp_path / "sweep.json").read_text())
            assert record["runs"]["batch_size_64"] == {"status": "waiting"}
        if each.batch_size == 128:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore lines")
        return {}

    monkeypatch.setattr(sweep_module, "train", fake)
    (tmp_path / "batch_size_64").mkdir()
    (tmp_path / "batch_size_64" / "config.json").write_text('{"learning_rate": 7.0}')
    outcomes = sweep(_config(toy_config, batch_size=(128, 64)), str(tmp_path))
    assert tried == [128, 64]
    assert [outcome["status"] for outcome in outcomes] == ["failed", "trained"]
    assert outcomes[0]["error"] == "RESOURCE_EXHAUSTED: Out of memory"
    assert json.loads((tmp_path / "sweep.json").read_text()) == {
        "grid": {"batch_size": [128, 64]},
        "learning_rate_scaling": "none",
        "scale_crop_margin": True,
        "runs": {
            "batch_size_128": {"status": "failed", "error": "RESOURCE_EXHAUSTED: Out of memory"},
            "batch_size_64": {"status": "trained"},
        },
    }


def test_models_of_a_grid_have_the_values_of_their_families():
    config = sweep_size.get_config("shallownet").unlock()
    config.grid = {"model": ("resnet18", "vit_s16"), "batch_size": (64, 256)}
    config.base = dafre_128.get_config("shallownet,recipe=modern")
    configs = expand(config)
    found = {name: resolve(each, family_of(each.model)) for name, each in configs.items()}
    # 0.1 for 256 images with SGD; 5e-4 with AdamW.
    rates = {name: each.learning_rate for name, each in found.items()}
    assert rates == pytest.approx(
        {
            "batch_size_64-model_resnet18": 0.025,
            "batch_size_256-model_resnet18": 0.1,
            "batch_size_64-model_vit_s16": 5e-4,
            "batch_size_256-model_vit_s16": 5e-4,
        }
    )
    assert found["batch_size_64-model_resnet18"].mean == (0.485, 0.456, 0.406)
    assert found["batch_size_64-model_vit_s16"].mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("argument", "grid", "words"),
    [
        ("shallownet", {"learning_rate": (0.1,)}, "is linear and config.grid has learning_rate; give one"),
        ("shallownet,recipe=modern", {"seed": (0,)}, "null config.base.learning_rate follows the batch size"),
        (
            "vit_s16,pretrained",
            {"model": ("vit_s32",)},
            "base.pretrained fit one model; needed: a sweep for each",
        ),
    ],
)
def test_expand_refuses_rules_that_exclude_each_other(argument, grid, words):
    config = sweep_size.get_config(argument).unlock()
    config.grid = grid
    config.learning_rate_scaling = "none" if "pretrained" in argument else "linear"
    with pytest.raises(InputError, match=words):
        expand(config)


def test_ended_run_without_test_split_is_not_trained_again(ended, tmp_path, monkeypatch):
    config, each, folder = ended
    config.base.test_split = each.test_split = ""
    (folder / "config.json").write_text(each.to_json())
    monkeypatch.setattr(sweep_module, "train", None)
    assert sweep(config, str(tmp_path)) == [{"run": "batch_size_64", "status": "had ended", "results": {}}]


def test_expand_refuses_a_bad_base_before_dividing_by_it():
    config = sweep_size.get_config("shallownet")
    config.learning_rate_scaling = "sqrt"
    for field in ("batch_size", "image_size"):
        config.base[field], kept = 0, config.base[field]
        with pytest.raises(InputError, match=rf"config\.{field} is 0"):
            expand(config)
        config.base[field] = kept
    config.grid.batch_size = (-1,)
    with pytest.raises(InputError, match=r"config\.batch_size is -1"):
        expand(config)


def test_ended_run_is_tested_on_a_new_test_split(ended, tmp_path, monkeypatch):
    config, each, folder = ended
    each.test_split = ""
    (folder / "config.json").write_text(each.to_json())
    monkeypatch.setattr(sweep_module, "train", lambda *_, **__: {"last": "tested"})
    assert sweep(config, str(tmp_path))[0]["results"] == {"last": "tested"}


def test_ended_run_resumes_with_more_epochs(ended, tmp_path, monkeypatch):
    config, each, folder = ended
    (folder / "config.json").write_text(each.to_json())
    config.base.epochs = 2
    monkeypatch.setattr(sweep_module, "train", lambda *_, **__: {"last": "trained"})
    assert sweep(config, str(tmp_path))[0]["results"] == {"last": "trained"}


@pytest.mark.slow
def test_interrupted_sweep_resumes(toy_config, tmp_path, monkeypatch):
    config = _config(toy_config, batch_size=(64, 2000, 128))
    trained = []
    train = sweep_module.train

    def note(each, folder, **options):
        trained.append(each.batch_size)
        return train(each, folder, **options)

    def stop(each, folder, **options):
        if each.batch_size == 2000:
            raise Stopped
        return note(each, folder, **options)

    monkeypatch.setattr(sweep_module, "train", stop)
    with pytest.raises(Stopped):
        sweep(config, str(tmp_path))
    monkeypatch.setattr(sweep_module, "train", note)
    outcomes = sweep(config, str(tmp_path))
    assert trained == [64, 2000, 128]
    assert [outcome["status"] for outcome in outcomes] == ["had ended", "failed", "trained"]
    # toyfaces has 1,411 training images.
    assert "batch_size 2000 is more than the 1411 examples" in outcomes[1]["error"]
    for outcome in (outcomes[0], outcomes[2]):
        assert json.loads((tmp_path / outcome["run"] / "results.json").read_text()) == outcome["results"]
