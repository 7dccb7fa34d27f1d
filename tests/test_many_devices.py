"""The same run on one and on many devices, in one process and in two."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from conftest import ROOT

from animesion_jax.journal import read_rows

pytestmark = pytest.mark.slow

# Twenty updates each on 1, 2, 4 and 8 devices; prints {model: {devices: losses}}.
TWENTY_STEPS = """
import json
import jax
import numpy as np
from animesion_jax import hosts, optim, steps
from animesion_jax.models import create_model, init_variables
from configs import common

OPTIONS = {
    "shallownet": {},
    "resnet18": {"stage_sizes": (1, 1)},
    "vit_ti16": {"num_layers": 2, "hidden_size": 24, "mlp_dim": 32, "dropout_rate": 0.1},
}
config = common.get_config()
config.image_size, config.crop_margin, config.learning_rate = 32, 8, 0.01
random = np.random.default_rng(0)
batches = [
    {
        "image": random.integers(0, 256, (16, 40, 40, 3), dtype=np.uint8),
        "label": random.integers(0, 6, 16, dtype=np.int32),
        "mask": np.ones(16, np.float32),
    }
    for _ in range(20)
]
losses = {}
for name, options in OPTIONS.items():
    model = create_model(name, num_classes=6, image_size=32, axis_name=steps.AXIS, **options)
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, 100))
    for count in (1, 2, 4, 8):
        devices = jax.devices()[:count]
        state = steps.create_state(init_variables(model, 32, 0), optimizer)
        state = jax.device_put(state, hosts.replicated(devices))
        step = steps.make_train_step(model, optimizer, config, devices)
        each = losses.setdefault(name, {})[count] = []
        for batch in steps.on_devices(batches, devices):
            state, sums = step(state, batch)
            each.append(float(sums["loss"]))
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


def test_one_two_four_and_eight_devices_give_the_same_losses(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", TWENTY_STEPS], env=_environment(8, tmp_path), capture_output=True, text=True, check=True
    )
    losses = json.loads(run.stdout)
    assert list(losses) == ["shallownet", "resnet18", "vit_ti16"]
    for by_devices in losses.values():
        one = by_devices.pop("1")
        assert len(one) == 20 and list(by_devices) == ["2", "4", "8"]
        for several in by_devices.values():
            assert several == pytest.approx(one, rel=1e-3)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


def _main(arguments, num_processes, compiled):
    """Runs a command in processes with four devices together; returns what each printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for process_id in range(num_processes):
        command = [sys.executable, "-m", "animesion_jax.main", *map(str, arguments)]
        if num_processes > 1:
            command += ["--distributed", f"--coordinator_address=localhost:{port}"]
            command += [f"--num_processes={num_processes}", f"--process_id={process_id}"]
        environment, pipe = _environment(4 // num_processes, compiled), subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True))
    outcomes = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * num_processes, outcomes
    # CPU's collectives, Gloo, print to stdout too.
    return ["".join(line for line in printed.splitlines() if "[Gloo]" not in line) for printed, _ in outcomes]


def _train(workdir, data_dir, epochs, num_processes, compiled):
    # ShallowNet has BatchNorm and dropout.
    fields = ["image_size=16", "crop_margin=8", "learning_rate=0.01", "log_every_steps=7", "checkpoint_every_steps=9"]
    fields = [f"--config.{field}" for field in (*fields, f"epochs={epochs}", f"data_dir={data_dir}")]
    return _main(["--config=configs/common.py", *fields, f"--workdir={workdir}"], num_processes, compiled)


def _assert_same_rows(workdir, other):
    one, two = read_rows(str(workdir)), read_rows(str(other))
    assert [(row["step"], row["split"]) for row in one] == [(row["step"], row["split"]) for row in two]
    for row, same in zip(one, two, strict=True):
        for name in row.keys() - {"split", "images_per_second"}:
            assert same[name] == pytest.approx(row[name], rel=1e-5), (name, row, same)


def test_two_processes_are_one_run(toyfaces_dir, tmp_path, compiled):
    """Training, evaluation, checkpoint and resume, with two devices each; and each goes on where the other stopped."""
    _train(tmp_path / "one", toyfaces_dir, 1, 1, compiled)
    shutil.copytree(tmp_path / "one", tmp_path / "one_then_two")
    (printed,) = _train(tmp_path / "one", toyfaces_dir, 2, 1, compiled)
    _train(tmp_path / "two", toyfaces_dir, 1, 2, compiled)
    shutil.copytree(tmp_path / "two", tmp_path / "two_then_one")
    first, second = _train(tmp_path / "two", toyfaces_dir, 2, 2, compiled)
    assert second == ""
    one, two = json.loads(printed), json.loads(first)
    assert one["last"]["examples"] == two["last"]["examples"] == 420
    assert two["last"] == {**one["last"], "loss": pytest.approx(one["last"]["loss"], rel=1e-5)}
    _train(tmp_path / "two_then_one", toyfaces_dir, 2, 1, compiled)
    _train(tmp_path / "one_then_two", toyfaces_dir, 2, 2, compiled)
    for other in ("two", "two_then_one", "one_then_two"):
        _assert_same_rows(tmp_path / "one", tmp_path / other)
    first, second = _main(["evaluate", f"--workdir={tmp_path / 'one'}", "--per_class"], 2, compiled)
    assert second == ""
    again = json.loads(first)
    assert again["examples"] == 420 and again["top1_accuracy"] == one["best"]["top1_accuracy"]
    table = (tmp_path / "one" / "per_class.csv").read_text().splitlines()[1:]
    assert len(table) == 20 and sum(int(line.split(",")[3]) for line in table) == 420
