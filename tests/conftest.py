"""Four simulated CPU devices; session fixtures: toyfaces, a trained run and its bundle."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Compile with less optimisation: most of the suite's time is compiling, and this takes a third off.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

# All worker processes of pytest-xdist share one folder: compiled programs, toyfaces, the trained run.
if "PYTEST_XDIST_WORKER" not in os.environ:
    SHARED_FILES = tempfile.TemporaryDirectory(prefix="animesion_jax_tests_")
    os.environ["ANIMESION_TESTS_SHARED"] = SHARED_FILES.name
COMMON = Path(os.environ["ANIMESION_TESTS_SHARED"])
# Commands that tests start use the same cache.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMMON / "compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 4)
# Four simulated devices on two cores deadlock if many steps are in flight.
jax.config.update("jax_cpu_enable_async_dispatch", False)

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

DRAWN, NOT_DRAWN, DRAWING_LOG = COMMON / "data", COMMON / "data.failed", COMMON / "toyfaces.log"


def _draw_toyfaces() -> subprocess.Popen:
    """Starts building toyfaces with the `tfds` command; `DRAWN` appears when it is complete."""
    tfds = shlex.quote(str(Path(sys.executable).parent / "tfds"))
    build = f"{tfds} build --num_shards=4 --data_dir='{DRAWN}.tmp' && mv '{DRAWN}.tmp' '{DRAWN}' || touch '{NOT_DRAWN}'"
    with DRAWING_LOG.open("w") as log:
        return subprocess.Popen(build, shell=True, cwd=ROOT / "tfds_builders" / "toyfaces", stdout=log, stderr=log)


def pytest_addoption(parser):
    parser.addoption(
        "--one_of_each", action="store_true", help="run parametrized tests with their first parameters only"
    )


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None):
        # Draw it while the workers run tests that need no data set.
        config.toyfaces = _draw_toyfaces()


def pytest_collection_modifyitems(config, items):
    if config.option.one_of_each:
        items[:] = {(item.path, item.cls, item.originalname): item for item in reversed(items)}.values()
    for item in items:
        if item.get_closest_marker("shared") and not SHARED.exists():
            item.add_marker(pytest.mark.skip(reason=f"{SHARED} is not on this machine"))
    # Run the users of session fixtures last and next to each other, so that workers need them late.
    items.sort(key=lambda item: ("toyfaces_dir" in item.fixturenames) + ("trained" in item.fixturenames))


@pytest.fixture(scope="session")
def toyfaces_dir() -> Path:
    """The data_dir of toyfaces, which the `tfds` command builds once for all workers."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _draw_toyfaces().wait()
    while not (DRAWN.exists() or NOT_DRAWN.exists()):
        time.sleep(0.1)
    assert DRAWN.exists(), DRAWING_LOG.read_text()[-2000:]
    return DRAWN


@pytest.fixture
def toy_config(toyfaces_dir):
    """A config for toyfaces at 16 px: two short epochs of ShallowNet."""
    from animesion_jax.configs import common

    config = common.get_config()
    config.data_dir = str(toyfaces_dir)
    config.image_size = 16
    config.crop_margin = 8
    config.epochs = 2
    config.learning_rate = 0.01
    config.eval_batch_size = 128
    # Each group of records needs its own tf.data pipeline.
    config.data.read_groups = 4
    return config


@pytest.fixture(scope="session")
def trained(toyfaces_dir) -> tuple[Path, dict[str, Any]]:
    """(workdir, results) of ShallowNet after three epochs of toyfaces at 32 px, trained once for all workers."""
    from animesion_jax.configs import common
    from animesion_jax.training.train import train

    config = common.get_config()
    config.data_dir = str(toyfaces_dir)
    config.image_size, config.crop_margin = 32, 8
    config.epochs, config.learning_rate = 3, 0.02
    workdir = COMMON / "runs" / "toy"
    with (COMMON / "training").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = workdir / "results.json"
        return workdir, json.loads(results.read_text()) if results.exists() else train(config, str(workdir))


@pytest.fixture(scope="session")
def bundle_path(trained, tmp_path_factory):
    """The path of a bundle with the best weights of `trained`."""
    from animesion_jax.export.run_to_bundle import export

    return export(str(trained[0]), str(tmp_path_factory.mktemp("bundle") / "toy.msgpack"))


@pytest.fixture(scope="session")
def calibrated(trained, bundle_path, tmp_path_factory):
    """(path of a calibrated copy of the bundle, the calibration)."""
    from animesion_jax.export.calibrate import calibrate

    output = tmp_path_factory.mktemp("calibrated") / "toy.msgpack"
    return calibrate(str(bundle_path), str(trained[0]), str(output))
