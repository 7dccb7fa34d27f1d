"""Runs that were interrupted, and end as if they had not been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

from animesion_jax import run, train
from animesion_jax.checkpoint import Checkpoints, latest_step
from animesion_jax.data import TrainData
from animesion_jax.errors import InputError
from animesion_jax.journal import Journal, read_rows
from animesion_jax.preemption import Preemption, Stopped

# What a command line gets to train what `config` trains.
SHORT_RUN = (
    "--config.image_size=16", "--config.crop_margin=8", "--config.learning_rate=0.01", "--config.epochs=6",
    "--config.log_every_steps=7", "--config.checkpoint_every_steps=5", "--config.data.cache=none",
)  # fmt: skip


def _rows(workdir):
    """The rows without the rate, the only number that a break may change."""
    return [{name: row[name] for name in row if name != "images_per_second"} for row in read_rows(str(workdir))]


def _assert_same_run(workdir, whole):
    assert _rows(workdir) == _rows(whole)
    assert (workdir / "results.json").read_text() == (whole / "results.json").read_text()
    one, other = (run.load(str(each), "last").variables for each in (workdir, whole))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def _nth_call(monkeypatch, owner, name, number, action):
    """Has `action` done before the nth call of a method."""
    original, calls = getattr(owner, name), iter(range(1, 10**6))

    def method(*arguments, **options):
        if next(calls) == number:
            action()
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, method)


def _crash():
    raise RuntimeError("pulled the plug")


def _terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def config(toy_config, monkeypatch):
    # Or the process that runs the tests would end, five seconds after a signal.
    monkeypatch.setattr("animesion_jax.preemption.PATIENCE_SECONDS", 3600)
    toy_config.data.cache = "none"
    toy_config.log_every_steps, toy_config.checkpoint_every_steps = 7, 5
    return toy_config


def test_however_often_it_is_interrupted_a_run_ends_the_same(config, tmp_path, monkeypatch):
    devices = jax.devices()[:1]
    train.train(config, str(tmp_path / "whole"), devices)
    workdir = tmp_path / "parts"

    def interrupted(owner, name, number, action, error):
        with monkeypatch.context() as patched, pytest.raises(error), Preemption() as preemption:
            _nth_call(patched, owner, name, number, action)
            train.train(config, str(workdir), devices, preemption=preemption)
        return latest_step(str(workdir))

    # In an update, between two checkpoints: the last one counts.
    assert interrupted(train.Window, "add", 14, _crash, RuntimeError) == 10
    # Told to stop in an update: saves it.
    assert interrupted(train.Window, "add", 2, _terminate, Stopped) == 12
    # Before a save: the last one counts.
    assert interrupted(Checkpoints, "save", 2, _crash, RuntimeError) == 15
    # Evaluating an epoch that is saved: goes on with evaluating.
    assert interrupted(train, "evaluate_split", 1, _terminate, Stopped) == 22
    assert _rows(workdir)[-1]["split"] == "train"
    assert interrupted(train, "evaluate_split", 1, _crash, RuntimeError) == 22
    # After the row of an epoch that is saved.
    assert interrupted(Journal, "write", 2, _crash, RuntimeError) == 25
    # In the test at the end.
    assert interrupted(train, "evaluate_split", 2, _terminate, Stopped) == 44
    assert not (workdir / "results.json").exists()
    train.train(config, str(workdir), devices)
    _assert_same_run(workdir, tmp_path / "whole")


def test_the_order_that_a_run_began_with_is_kept_whatever_the_memory(config, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    config.epochs, config.data.cache = 1, "auto"
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 0}))
    devices = jax.devices()[:1]
    train.train(config, str(tmp_path / "run"), devices)
    monkeypatch.undo()
    config.epochs = 2
    train.train(config, str(tmp_path / "run"), devices)
    assert caplog.text.count("input cache: none") == 2 and "another order" not in caplog.text
    config.epochs, config.data.cache = 3, "decoded"
    train.train(config, str(tmp_path / "run"), devices)
    assert "config.data.cache is 'decoded' now: from here on the examples come in another order" in caplog.text


def test_another_config_is_accepted_where_told_so_unless_the_model_is_another(trained, tmp_path, toy_config):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    config = run.read_config(str(workdir))
    config.epochs, config.learning_rate = 4, 0.005
    with pytest.raises(InputError, match=r"learning_rate was 0\.02, is 0\.005; give .*--accept_changes to go on"):
        train.train(config, str(workdir))
    train.train(config, str(workdir), accept_changes=True)
    assert run.read_config(str(workdir)).learning_rate == 0.005
    assert _rows(workdir)[-3] | {"step": 88, "split": "validation"} == _rows(workdir)[-3]
    before = (workdir / "config.json").read_text()
    with pytest.raises(InputError, match=r"trained all 4 epochs, with another config: learning_rate was 0.005, is 0.1"):
        config.learning_rate = 0.1
        train.train(config, str(workdir), accept_changes=True)
    config.model, config.epochs = "vit_ti16", 5
    with pytest.raises(InputError, match=r"checkpoint 88 of .* is of another model or optimizer"):
        train.train(config, str(workdir), accept_changes=True)
    assert (workdir / "config.json").read_text() == before and (workdir / "results.json").exists()


@pytest.mark.parametrize("cache", ["decoded", "encoded", "none"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_files(cache, config, tmp_path):
    """The first update is far too large, so the second batch's loss overflows."""
    config.data.cache, config.learning_rate = cache, 1e30
    config.checkpoint_every_steps = 1
    with pytest.raises(
        InputError, match=r"the loss is (nan|inf) at step 2 \(epoch 0\.09\).*the last finite checkpoint is 1; lower"
    ):
        train.train(config, str(tmp_path / "run"), jax.devices()[:1])
    report = json.loads((tmp_path / "run" / "nonfinite_batch.json").read_text())
    assert report["step"] == 2 and latest_step(str(tmp_path / "run")) == 1
    # toyfaces' files lie in folders named after their characters.
    dataset = train.load_dataset(config.dataset, config.data_dir)
    batches = TrainData(config, dataset).batches()
    next(batches)
    expected = [dataset.class_names[label] for label in next(batches)["label"]]
    assert [name.split("/")[0] for name in report["files"]] == expected
    assert len(set(report["files"])) == config.batch_size
    assert all(np.isfinite(row["loss"]) for row in read_rows(str(tmp_path / "run")))


def _start(workdir: Path, data_dir: Path, cache: Path, log: Path, *more: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    command = [sys.executable, "-m", "animesion_jax.main", "--config=configs/common.py"]
    with log.open("w") as file:
        return subprocess.Popen(
            [*command, *SHORT_RUN, f"--config.data_dir={data_dir}", f"--workdir={workdir}", *more],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=file,
        )  # fmt: skip


def _wait_for(text: str, log: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


@pytest.mark.slow
def test_ten_kills_at_random_moments_and_a_sigterm_change_nothing(toyfaces_dir, tmp_path):
    """Each kill comes within the second after the first row of a start: in updates, saves and evaluations."""
    log = tmp_path / "log"
    start = lambda name: _start(tmp_path / name, toyfaces_dir, tmp_path / "compiled", log)  # noqa: E731
    assert start("whole").wait() == 0
    choice = random.Random(5)
    for _ in range(10):
        process = start("killed")
        _wait_for("  train: ", log, process)
        time.sleep(choice.uniform(0, 1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    process = start("killed")
    _wait_for("  train: ", log, process)
    process.terminate()
    begun = time.monotonic()
    assert process.wait() == 0
    assert time.monotonic() - begun < 10
    assert "stopped by SIGTERM" in log.read_text()
    assert start("killed").wait() == 0
    _assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["", "resnet18 ("])
def test_sigterm_while_starting_and_compiling_ends_at_once(moment, toyfaces_dir, tmp_path):
    log = tmp_path / "log"
    process = _start(tmp_path / "run", toyfaces_dir, tmp_path / "compiled", log, "--config.model=resnet18")
    _wait_for(moment, log, process)
    # Not before Python has begun to run our program.
    time.sleep(2)
    begun = time.monotonic()
    process.terminate()
    assert process.wait() == 0
    assert time.monotonic() - begun < 10
