"""Runs that were interrupted, and end as if they had not been."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from animesion_jax.config import stage
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.train_data import TrainData
from animesion_jax.errors import InputError, Stopped
from animesion_jax.main import main
from animesion_jax.training import train
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.running_metrics import RunningMetrics
from animesion_jax.workdir import run
from animesion_jax.workdir.checkpoints import Checkpoints, latest_step
from animesion_jax.workdir.metrics_log import MetricsLog
from animesion_jax.workdir.rows import read_rows
from tests.conftest import ROOT

# Flags that train the same run as the fixture `config`.
SHORT_RUN = (
    "--config.image_size=16", "--config.crop_margin=8", "--config.learning_rate=0.01", "--config.epochs=12",
    "--config.log_every_steps=7", "--config.checkpoint_every_steps=5", "--config.data.cache=none",
)  # fmt: skip


def _rows(workdir):
    """Returns the rows without images_per_second, the only number that an interruption may change."""
    return [{name: row[name] for name in row if name != "images_per_second"} for row in read_rows(str(workdir))]


def _assert_same_run(workdir, whole):
    assert _rows(workdir) == _rows(whole)
    assert (workdir / "results.json").read_text() == (whole / "results.json").read_text()
    one, other = (run.load(str(each), "last").variables for each in (workdir, whole))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def _nth_call(monkeypatch, owner, name, number, action):
    """Calls `action` before the nth call of a method."""
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
def config(toy_config):
    toy_config.data.cache = "none"
    toy_config.log_every_steps, toy_config.checkpoint_every_steps = 7, 5
    return toy_config


# The interruption of each start of a run: (owner and name of a method, number of its call, the action before this call,
# the error that ends the start, the step of the newest checkpoint then).
INTERRUPTIONS = (
    # A crash in an update between two checkpoints: the last checkpoint counts.
    (RunningMetrics, "add", 14, _crash, RuntimeError, 10),
    # SIGTERM in an update: the run saves a checkpoint after the update.
    (RunningMetrics, "add", 2, _terminate, Stopped, 12),
    # A crash before a save: the last checkpoint counts.
    (Checkpoints, "save", 2, _crash, RuntimeError, 15),
    # In the evaluation of a saved epoch: the next start begins with the evaluation.
    (train, "evaluate_split", 1, _terminate, Stopped, 22),
    (train, "evaluate_split", 1, _crash, RuntimeError, 22),
    # A crash after the row of a saved epoch, before the next row.
    (MetricsLog, "write", 2, _crash, RuntimeError, 25),
    # In the test at the end.
    (train, "evaluate_split", 2, _terminate, Stopped, 44),
)


@pytest.mark.parametrize(("times", "epochs"), [(1, 1), pytest.param(len(INTERRUPTIONS), 2, marks=pytest.mark.slow)])
def test_interrupted_run_ends_like_an_uninterrupted_one(times, epochs, config, tmp_path, monkeypatch):
    config.epochs, devices = epochs, jax.devices()[:1]
    train.train(config, str(tmp_path / "whole"), devices)
    workdir = tmp_path / "parts"
    for owner, name, number, action, error, newest in INTERRUPTIONS[:times]:
        with monkeypatch.context() as patched, pytest.raises(error), Preemption() as preemption:
            _nth_call(patched, owner, name, number, action)
            train.train(config, str(workdir), devices, preemption=preemption)
        assert latest_step(str(workdir)) == newest
        assert not (workdir / "results.json").exists()
        if newest == 22:
            assert _rows(workdir)[-1]["split"] == "train"
    train.train(config, str(workdir), devices)
    _assert_same_run(workdir, tmp_path / "whole")


@pytest.mark.slow
def test_interrupted_run_of_two_stages_ends_like_an_uninterrupted_one(config, tmp_path, monkeypatch):
    """22 updates of the first stage, 22 of the second, which leaves all but the classifier as it was."""
    second = stage(
        epochs=1, trainable="head", class_weights="balanced", optimizer="sgd", learning_rate=0.1, schedule="cosine",
        weight_decay=0.0, mixup=0.0, cutmix=0.0, label_smoothing=0.0, logit_adjustment=0.0, ema_decay=0.0,
    )  # fmt: skip
    config.epochs, config.stages, config.keep_last_checkpoints = 1, (stage(), second), 20
    config.optimizer, config.weight_decay, config.ema_decay = "adamw", 0.01, 0.9
    config.augment.erasing, config.mixup, config.cutmix, config.label_smoothing = 0.5, 0.2, 1.0, 0.1
    config.logit_adjustment = 1.0
    devices, whole, workdir = jax.devices()[:1], tmp_path / "whole", tmp_path / "parts"
    train.train(config, str(whole), devices)
    for owner, name, number, action, error, newest in (
        # In the first stage; as it ends, before its row; at the first update of the second; and within it.
        (RunningMetrics, "add", 14, _crash, RuntimeError, 10),
        (train, "evaluate_split", 1, _crash, RuntimeError, 22),
        (RunningMetrics, "add", 1, _terminate, Stopped, 23),
        (RunningMetrics, "add", 9, _crash, RuntimeError, 30),
    ):
        with monkeypatch.context() as patched, pytest.raises(error), Preemption() as preemption:
            _nth_call(patched, owner, name, number, action)
            train.train(config, str(workdir), devices, preemption=preemption)
        assert latest_step(str(workdir)) == newest
    train.train(config, str(workdir), devices)
    _assert_same_run(workdir, whole)

    rates = {row["step"]: row["learning_rate"] for row in _rows(whole) if row["split"] == "train"}
    assert rates[22] == pytest.approx(0.01) and rates[28] == pytest.approx(0.05 * (1 + np.cos(np.pi * 5 / 22)))
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "step_of", lambda *_: 22)
        boundary = run.load(str(whole), "last").variables
    last = run.load(str(whole), "last").variables
    assert not np.array_equal(boundary["params"].pop("head")["kernel"], last["params"].pop("head")["kernel"])
    jax.tree.map(np.testing.assert_array_equal, boundary, last)
    with pytest.raises(InputError, match=r"epochs was 1, is 2; give the same values"):
        config.epochs = 2
        train.train(config, str(whole), devices)


@pytest.mark.slow
def test_resumed_run_keeps_its_order_with_less_memory(config, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    config.epochs, config.data.cache = 1, "auto"
    with monkeypatch.context() as patched:
        patched.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 0}))
        train.train(config, str(tmp_path / "run"), jax.devices()[:1])
    monkeypatch.setattr(train, "_loop", lambda *_: _crash())
    config.epochs = 2
    with pytest.raises(RuntimeError):
        train.train(config, str(tmp_path / "run"), jax.devices()[:1])
    assert caplog.text.count("input cache: none") == 2 and "another order" not in caplog.text
    config.data.cache = "decoded"
    with pytest.raises(RuntimeError):
        train.train(config, str(tmp_path / "run"), jax.devices()[:1])
    assert "config.data.cache is now 'decoded': the examples come in another order" in caplog.text


def test_damaged_best_weights_fall_back_to_the_next_best(trained, tmp_path, caplog):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    # As if the last epoch had been the worst.
    rows = [row | {"top1_accuracy": 0.0} if row["step"] == 66 else row for row in read_rows(str(workdir))]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    checkpoints = Checkpoints(str(workdir), read_only=True)
    best = checkpoints.step_of("best")
    next_best = checkpoints.step_of("best", without=[best])
    checkpoints.close()
    assert best != 66
    (workdir / "checkpoints" / str(best) / "weights" / "manifest.ocdbt").unlink()
    with pytest.raises(InputError, match=rf"checkpoint {best} of .* is damaged .*; take other --weights, or start"):
        run.load(str(workdir), "best")
    results = train.train(run.read_config(str(workdir)), str(workdir))
    assert (results["best"]["step"], results["last"]["step"]) == (next_best, 66)
    assert f"checkpoint {best} is damaged" in caplog.text


@pytest.mark.slow
def test_full_disk_gives_one_line_and_leaves_checkpoints_intact(trained, tmp_path, capsys):
    """A limit on file sizes simulates the full disk: writes fail in the same places."""
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    config = run.read_config(str(workdir))
    fields = ["image_size=32", "crop_margin=8", "learning_rate=0.02", "epochs=4", f"data_dir={config.data_dir}"]
    command = [f"--config={ROOT / 'configs' / 'common.py'}", *(f"--config.{field}" for field in fields)]
    command.append(f"--workdir={workdir}")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
    try:
        assert main(["animesion", *command]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert (
        "a checkpoint cannot be written to" in message and "(File too large); earlier checkpoints are intact" in message
    )
    assert latest_step(str(workdir)) == 66
    assert main(["animesion", *command]) == 0
    assert latest_step(str(workdir)) == 88


@pytest.mark.slow
def test_accept_changes_takes_another_config_but_not_another_model(trained, tmp_path, toy_config):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    config = run.read_config(str(workdir))
    config.epochs, config.learning_rate = 4, 0.005
    with pytest.raises(InputError, match=r"learning_rate was 0\.02, is 0\.005; give .*--accept_changes to continue"):
        train.train(config, str(workdir))
    train.train(config, str(workdir), accept_changes=True)
    assert run.read_config(str(workdir)).learning_rate == 0.005
    assert _rows(workdir)[-3] | {"step": 88, "split": "validation"} == _rows(workdir)[-3]
    before = (workdir / "config.json").read_text()
    with pytest.raises(InputError, match=r"trained all 4 epochs, with another config: learning_rate was 0.005, is 0.1"):
        config.learning_rate = 0.1
        train.train(config, str(workdir), accept_changes=True)
    config.model, config.epochs = "vit_ti16", 5
    with pytest.raises(InputError, match=r"checkpoints/88/\w+ is of another model or optimizer"):
        train.train(config, str(workdir), accept_changes=True)
    assert (workdir / "config.json").read_text() == before and (workdir / "results.json").exists()


@pytest.mark.parametrize(
    "cache", ["none", *(pytest.param(cache, marks=pytest.mark.slow) for cache in ("decoded", "encoded"))]
)
def test_nonfinite_loss_stops_the_run_and_names_the_files(cache, config, tmp_path):
    """The first update is far too large, so the second batch's loss overflows."""
    config.data.cache, config.learning_rate = cache, 1e30
    config.checkpoint_every_steps = 1
    with pytest.raises(
        InputError, match=r"the loss is (nan|inf) at step 2 \(epoch 0\.09\).*the last finite checkpoint is 1; lower"
    ):
        train.train(config, str(tmp_path / "run"), jax.devices()[:1])
    report = json.loads((tmp_path / "run" / "nonfinite_batch.json").read_text())
    assert report["step"] == 2 and latest_step(str(tmp_path / "run")) == 1
    # toyfaces' files are in folders named after their characters.
    dataset = load_dataset(config.dataset, config.data_dir)
    batches = TrainData(config, dataset).batches()
    next(batches)
    expected = [dataset.class_names[label] for label in next(batches)["label"]]
    assert [name.split("/")[0] for name in report["files"]] == expected
    assert len(set(report["files"])) == config.batch_size
    assert all(np.isfinite(row["loss"]) for row in read_rows(str(tmp_path / "run")))


def _wait_until(condition: Callable[[], bool], log: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.001)


@pytest.mark.slow
def test_ten_kills_and_a_sigterm_at_random_moments_change_nothing(toyfaces_dir, tmp_path):
    """Kills while starting, between updates and evaluations, and inside saves."""
    log, workdir = tmp_path / "log", tmp_path / "killed"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    command = [
        sys.executable, "-m", "animesion_jax.main", "--config=configs/common.py", *SHORT_RUN,
        f"--config.data_dir={toyfaces_dir}",
    ]  # fmt: skip

    def start(workdir: Path) -> subprocess.Popen:
        with log.open("w") as file:
            return subprocess.Popen([*command, f"--workdir={workdir}"], cwd=ROOT, env=environment, stderr=file)

    def logs_a_row() -> bool:
        return "  train: " in log.read_text()

    assert start(tmp_path / "whole").wait() == 0
    choice = random.Random(5)
    resumed = []
    for number in range(10):
        process = start(workdir)
        moment = ("updating", "saving", "starting")[number % 3]
        if moment == "starting":
            time.sleep(choice.uniform(0, 6))
        elif moment == "saving":
            _wait_until(logs_a_row, log, process)
            time.sleep(choice.uniform(0, 0.4))
            _wait_until(lambda: any((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp")), log, process)
        else:
            # However slow the machine is, these starts get further than those before.
            before = latest_step(str(workdir)) or 0
            _wait_until(lambda before=before: (latest_step(str(workdir)) or 0) > before, log, process)
            time.sleep(choice.uniform(0, 0.4))
        if number == 0:
            process.send_signal(signal.SIGSTOP)  # otherwise it would train to its end meanwhile
            second = subprocess.run(
                [*command, f"--workdir={workdir}"], cwd=ROOT, env=environment, capture_output=True, text=True
            )
            assert second.returncode == 2 and "another training is running in" in second.stderr, second.stderr
        process.kill()
        assert process.wait() == -signal.SIGKILL, log.read_text()
        resumed += [int(line.split()[-1]) for line in log.read_text().splitlines() if "resuming" in line]
    assert resumed == sorted(resumed) and len(set(resumed)) >= 3, resumed
    process = start(workdir)
    _wait_until(logs_a_row, log, process)
    process.terminate()
    begun = time.monotonic()
    assert process.wait() == 0
    assert time.monotonic() - begun < 10
    assert "stopped by SIGTERM" in log.read_text()
    assert not (workdir / "results.json").exists()
    assert start(workdir).wait() == 0
    _assert_same_run(workdir, tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_during_compilation_ends_with_status_130(toyfaces_dir, tmp_path):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": ""}
    # Tests in the background may ignore SIGINT, and so do their children: restore the handler.
    heeding = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [
        sys.executable, "-c", f"{heeding}; runpy.run_module('animesion_jax.main', run_name='__main__', alter_sys=True)",
        "--config=configs/dafre_128.py:resnet50",
        "--config.dataset=toyfaces", f"--config.data_dir={toyfaces_dir}", "--config.image_size=64",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        said = next(line for line in process.stderr if "compiling the training step" in line)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "animesion train: interrupted"
