import json

import jax
import pytest

from animesion_jax.errors import InputError, Stopped
from animesion_jax.training import sweep as sweep_module
from animesion_jax.training.sweep import expand, sweep
from configs import sweep_size


def _config(toy_config, **grid):
    config = sweep_size.get_config("shallownet").unlock()
    config.base = toy_config
    config.base.epochs = 1
    config.grid = grid
    return config


def test_a_run_for_every_combination_with_the_crop_margin_in_proportion():
    configs = expand(sweep_size.get_config("shallownet"))
    assert len(configs) == 5 * 3
    each = configs["batch_size_256-image_size_224-seed_0"]
    assert (each.image_size, each.batch_size, each.crop_margin, each.learning_rate) == (224, 256, 56, 1e-3)


@pytest.mark.parametrize(("scaling", "expected"), [("none", 1e-3), ("linear", 16e-3), ("sqrt", 4e-3)])
def test_the_learning_rate_follows_the_batch_size(scaling, expected):
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
        ({"bach_size": (1,)}, "'bach_size'"),
        ({"batch_size": ()}, r"batch_size is \(\)"),
        ({"batch_size": ("many",)}, "'many'"),
        ({"augment": (0,)}, "'augment' in config.grid"),
        ({"crop_margin": (4,)}, r"crop_margin would not decide alone; needed: config\.scale_crop_margin=False"),
        ({"model": ("resnet18",)}, "needed: a sweep for each model"),
        ({"batch_size": (-1, 0)}, r"config\.batch_size is -1"),
        ({"image_size": (16, 8)}, "run image_size_8 of the sweep: image_size 8 is too small"),
        ({"batch_size": (64, 30)}, "run batch_size_30 of the sweep: batch_size 30 does not divide among 4"),
    ],
)
def test_a_bad_grid_fails_before_anything_is_trained(toy_config, tmp_path, grid, words):
    with pytest.raises(InputError, match=words):
        sweep(_config(toy_config, **grid), str(tmp_path / "sweep"))
    assert not (tmp_path / "sweep").exists()


def test_a_missing_validation_split_is_named_before_anything_is_trained(toy_config, tmp_path):
    config = _config(toy_config, batch_size=(64,))
    config.base.validation_split = "val"
    with pytest.raises(InputError, match="run batch_size_64 of the sweep: toyfaces has no split 'val'"):
        sweep(config, str(tmp_path / "sweep"))


def test_a_run_that_does_not_fit_into_memory_does_not_stop_the_others(toy_config, tmp_path, monkeypatch):
    """Nor does one that another config left without a checkpoint."""
    tried = []

    def fake(each, folder, devices, **_):
        tried.append(each.batch_size)
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


def test_a_sweep_without_a_test_split_leaves_ended_runs_alone(toy_config, tmp_path, monkeypatch):
    config = _config(toy_config, batch_size=(64,))
    config.base.test_split = ""
    folder = tmp_path / "batch_size_64"
    folder.mkdir()
    (folder / "results.json").write_text("{}")
    (each,) = expand(config).values()
    (folder / "config.json").write_text(each.to_json())
    monkeypatch.setattr(sweep_module, "train", None)
    assert sweep(config, str(tmp_path)) == [{"run": "batch_size_64", "status": "had ended", "results": {}}]


def test_a_bad_base_is_named_and_not_divided_by():
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


def test_a_test_split_that_is_asked_for_later_is_evaluated(toy_config, tmp_path, monkeypatch):
    config = _config(toy_config, batch_size=(64,))
    folder = tmp_path / "batch_size_64"
    folder.mkdir()
    (folder / "results.json").write_text("{}")
    (each,) = expand(config).values()
    each.test_split = ""
    (folder / "config.json").write_text(each.to_json())
    monkeypatch.setattr(sweep_module, "train", lambda *_, **__: {"last": "tested"})
    assert sweep(config, str(tmp_path))[0]["results"] == {"last": "tested"}


@pytest.mark.slow
def test_a_sweep_goes_on_where_it_stopped(toy_config, tmp_path, monkeypatch):
    config = _config(toy_config, batch_size=(64, 2000, 128))
    trained = []
    train = sweep_module.train

    def note(each, folder, devices, **options):
        trained.append(each.batch_size)
        return train(each, folder, devices, **options)

    def stop(each, folder, devices, **options):
        if each.batch_size == 2000:
            raise Stopped
        return note(each, folder, devices, **options)

    monkeypatch.setattr(sweep_module, "train", stop)
    with pytest.raises(Stopped):
        sweep(config, str(tmp_path))
    monkeypatch.setattr(sweep_module, "train", note)
    outcomes = sweep(config, str(tmp_path), jax.local_devices())
    assert trained == [64, 2000, 128]
    assert [outcome["status"] for outcome in outcomes] == ["had ended", "failed", "trained"]
    # toyfaces has 1,411 training images: one run that cannot be trained does not stop the others.
    assert "batch_size 2000 is more than the 1411 examples" in outcomes[1]["error"]
    for outcome in (outcomes[0], outcomes[2]):
        assert json.loads((tmp_path / outcome["run"] / "results.json").read_text()) == outcome["results"]
    # More epochs than a run has had: it goes on.
    config.base.epochs = 2
    tried = []
    monkeypatch.setattr(sweep_module, "train", lambda each, *_, **__: tried.append(each.batch_size))
    sweep(config, str(tmp_path))
    assert tried == [64, 2000, 128]
