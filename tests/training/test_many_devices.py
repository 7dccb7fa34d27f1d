"""The same run on one and on many devices, in one process and in two."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from animesion_jax.workdir.checkpoints import latest_step
from animesion_jax.workdir.rows import read_rows
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

# Twenty updates each on 1, 2, 4 and 8 devices; prints {model: {devices: losses}}.
TWENTY_STEPS = """
import json, jax
from tests.training.test_steps import OPTIONS, make_batches, train_steps

batches, losses = make_batches(20), {}
for name in OPTIONS:
    # A ResNet's programs take long to compile; ShallowNet has BatchNorm too. BEiT has stochastic depth like EVA02.
    for count in (1, 8) if name in ("resnet18", "eva02_b14") else (1, 2, 4, 8):
        _, sums, _ = train_steps(name, jax.devices()[:count], batches)
        losses.setdefault(name, {})[count] = [float(each["loss"]) for each in sums]
print(json.dumps(losses))
"""


def _environment(num_devices, compiled):
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "false",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
    }


def test_losses_are_the_same_on_1_2_4_and_8_devices(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", TWENTY_STEPS], env=_environment(8, tmp_path), capture_output=True, text=True, check=True
    )
    losses = json.loads(run.stdout)
    assert list(losses) == ["shallownet", "resnet18", "vit_ti16", "beit_b16", "eva02_b14"]
    for name, by_devices in losses.items():
        one = by_devices.pop("1")
        assert len(one) == 20 and list(by_devices) == (["8"] if name in ("resnet18", "eva02_b14") else ["2", "4", "8"])
        for several in by_devices.values():
            assert several == pytest.approx(one, rel=1e-3)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@contextlib.contextmanager
def _started(arguments, num_processes, compiled, folder):
    """Starts a command in processes with four devices together; ends what is left of them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for process_id in range(num_processes):
        command = [sys.executable, "-m", "animesion_jax.main", *map(str, arguments)]
        if num_processes > 1:
            command += ["--distributed", f"--coordinator_address=localhost:{port}"]
            command += [f"--num_processes={num_processes}", f"--process_id={process_id}"]
        environment = _environment(4 // num_processes, compiled)
        # Write to files: a full pipe would block a process while the test waits for the other.
        with (folder / f"{process_id}.out").open("w") as out, (folder / f"{process_id}.err").open("w") as err:
            processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=err))
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def _wait(processes, folder, seconds=240):
    """Waits until all processes have ended with exit status 0."""
    deadline = time.monotonic() + seconds
    while any(process.poll() is None for process in processes):
        assert time.monotonic() < deadline and not any(process.poll() for process in processes), _logs(folder)
        time.sleep(0.05)
    assert [process.returncode for process in processes] == [0] * len(processes), _logs(folder)


def _logs(folder):
    return {path.name: path.read_text()[-2000:] for path in folder.glob("*.err")}


def _main(arguments, num_processes, compiled):
    """Runs a command in processes with four devices together; returns what each printed."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with _started(arguments, num_processes, compiled, folder) as processes:
            _wait(processes, folder)
        printed = [(folder / f"{process_id}.out").read_text() for process_id in range(num_processes)]
    # Gloo, the CPU's collectives, also prints to stdout, parts of lines included.
    return [re.sub(r"^[^{]*", "", each) for each in printed]


def _arguments(workdir, data_dir, epochs):
    # ShallowNet has BatchNorm and dropout. With higher rates, the roundings of two orders of summation grow: within 44
    # steps to 1e-3 of the loss at 0.01, with jax 0.10.0.
    fields = ["image_size=16", "crop_margin=8", "learning_rate=0.001", "log_every_steps=7", "checkpoint_every_steps=9"]
    fields = [f"--config.{field}" for field in (*fields, f"epochs={epochs}", f"data_dir={data_dir}")]
    return ["--config=configs/common.py", *fields, f"--workdir={workdir}"]


def _train(workdir, data_dir, epochs, num_processes, compiled):
    return _main(_arguments(workdir, data_dir, epochs), num_processes, compiled)


def _assert_same_rows(workdir, other):
    one, two = read_rows(str(workdir)), read_rows(str(other))
    assert [(row["step"], row["split"]) for row in one] == [(row["step"], row["split"]) for row in two]
    for row, same in zip(one, two, strict=True):
        for name in row.keys() - {"split", "images_per_second"}:
            assert same[name] == pytest.approx(row[name], rel=1e-5), (name, row, same)


def test_two_processes_train_like_one(toyfaces_dir, tmp_path, compiled):
    """Training, evaluation, checkpoint and resume, with two devices each."""
    (printed,) = _train(tmp_path / "one", toyfaces_dir, 2, 1, compiled)
    _train(tmp_path / "two", toyfaces_dir, 1, 2, compiled)
    first, second = _train(tmp_path / "two", toyfaces_dir, 2, 2, compiled)
    assert second == ""
    one, two = json.loads(printed), json.loads(first)
    assert one["last"]["examples"] == two["last"]["examples"] == 420
    assert two["last"] == {**one["last"], "loss": pytest.approx(one["last"]["loss"], rel=1e-5)}
    _assert_same_rows(tmp_path / "one", tmp_path / "two")
    # Two processes evaluate a run that one process has trained.
    first, second = _main(["evaluate", f"--workdir={tmp_path / 'one'}", "--per_class"], 2, compiled)
    assert second == ""
    again = json.loads(first)
    assert again["examples"] == 420 and again["top1_accuracy"] == one["best"]["top1_accuracy"]
    table = (tmp_path / "one" / "per_class.csv").read_text().splitlines()[1:]
    assert len(table) == 20 and sum(int(line.split(",")[3]) for line in table) == 420


def test_sigterm_to_one_process_stops_both_at_the_same_step(toyfaces_dir, tmp_path, compiled):
    with _started(_arguments(tmp_path / "run", toyfaces_dir, 100), 2, compiled, tmp_path) as processes:
        deadline = time.monotonic() + 120
        while "epoch 2.00" not in (tmp_path / "0.err").read_text():
            assert time.monotonic() < deadline and processes[0].poll() is None, _logs(tmp_path)
            time.sleep(0.05)
        processes[1].terminate()
        _wait(processes, tmp_path, seconds=10)
    said = [(tmp_path / f"{process_id}.err").read_text().splitlines()[-1] for process_id in range(2)]
    assert said[0] == said[1] and "stopped by SIGTERM" in said[0]
    if "saved at step" in said[0]:
        assert f"saved at step {latest_step(str(tmp_path / 'run'))} of" in said[0]
