import errno
import json
import os
import subprocess
import sys

import pytest

import animesion_jax
from animesion_jax.cli import figures
from animesion_jax.errors import InputError, Stopped
from animesion_jax.main import main
from tests.conftest import ROOT

CONFIG = f"--config={ROOT / 'configs' / 'dafre_128.py'}"
SWEEP = f"--config={ROOT / 'configs' / 'sweep_size.py'}:shallownet"


def test_predict_works_without_tensorflow_and_imports_jax_on_first_use(bundle_path, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), "pink").save(tmp_path / "face.png")
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None\n"
        "import animesion_jax; assert 'jax' not in sys.modules\n"
        "import animesion_jax.training.steps, animesion_jax.training.optim\n"
        f"print(animesion_jax.load({str(bundle_path)!r}).predict({str(tmp_path / 'face.png')!r})[0][0]['class'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip()


def test_public_names_are_those_of_their_rooms():
    from animesion_jax.library import train
    from animesion_jax.models import create_model

    assert (animesion_jax.create_model, animesion_jax.train) == (create_model, train)
    with pytest.raises(AttributeError, match="has no attribute 'fly'"):
        _ = animesion_jax.fly


def test_evaluate_prints_its_json_alone_on_stdout(trained):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "animesion_jax.main", "evaluate", f"--workdir={trained[0]}", "--split=validation"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    assert list(json.loads(result.stdout))[:5] == ["split", "examples", "loss", "top1_accuracy", "top5_accuracy"]


def test_log_level_of_tensorflow_is_set_unless_the_user_sets_it(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    main(["animesion", "fly"])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    main(["animesion", "fly"])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["fly", "evaluate"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.bach_size=3"], ["field 'bach_size'", "batch_size"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.epochs=many"], ["config.epochs", "many"]),
        (
            [f"{CONFIG}:shallownet", "--workdir=w", "--config.stages[0].learning_rate=-1"],
            ["config.stages[0].learning_rate is -1.0", "more than 0"],
        ),
        (
            [f"{CONFIG}:shallownet", "--workdir=w", "--config.dataset=toyface"],
            ["toyface", "dafre, moeimouto, toyfaces"],
        ),
        ([f"--config={ROOT / 'README.md'}", "--workdir=w"], ["--help"]),
        ([f"{CONFIG}:shallownet,pretrained", "--workdir=w"], ["shallownet", "no published weights"]),
        ([f"{CONFIG}:shallownet"], ["--workdir"]),
        (["--workdir=w"], ["--config"]),
        ([SWEEP, "--workdir=w"], ["grid", "sweep"]),
        (["sweep", f"{CONFIG}:shallownet", "--workdir=w"], ["grid", "sweep_size"]),
        (["sweep", SWEEP, "--workdir=w", "--config.grid.batch_size=(8,)"], ["dafre/released", "not built"]),
        (
            ["sweep", SWEEP, "--workdir=w", "--config.gird.seed=(8,)"],
            ["field 'gird.seed'", "mean grid.seed?", "animesion sweep --help"],
        ),
        (
            [f"{CONFIG}:shallownet", "--workdir=w", "--process_id=1"],
            ["--process_id is for --distributed", "give both"],
        ),
        (
            ["evaluate", "--workdir=w", "--distributed", "--num_processes=2"],
            ["--coordinator_address", "missing", "allowed: all three"],
        ),
        (
            [
                "evaluate",
                "--workdir=w",
                "--distributed",
                "--num_processes=2",
                "--process_id=2",
                "--coordinator_address=h:1",
            ],
            ["--process_id is 2", "allowed: 0 to 1"],
        ),
        (["evaluate"], ["--workdir", "--help"]),
        (["evaluate", "--workdir=nowhere"], ["nowhere", "config.json"]),
        (["export", "--output=x"], ["--workdir", "--bundle", "--help"]),
        (["export", "--bundle=b.msgpack", "--output=x"], ["b.msgpack", "already", "--format=onnx"]),
        (["export", "--workdir=w", "--output=x", "--preprocessing=inside"], ["inside", "--format=onnx"]),
        (
            ["export", "--bundle=b.msgpack", "--output=x", "--format=onnx", "--weights=last"],
            ["--weights=last", "--workdir"],
        ),
        (["export", "--bundle=none.msgpack", "--output=x", "--format=onnx"], ["none.msgpack", "export"]),
        (["export", "--workdir=nowhere", "--output=x", "--format=safetensors"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere", "workdirs"]),
        (["evaluate", "--workdir=w", "--output=classes.csv"], ["classes.csv", "--per_class"]),
        (["predict", "--bundle=none.msgpack", "x.png"], ["none.msgpack", "export"]),
        (["predict", "--bundle=none.msgpack", "--format=xml", "x.png"], ["xml", "json"]),
        (["predict", "--bundle=none.onnx", "x.png"], ["no ONNX file at none.onnx"]),
    ],
)
def test_bad_input_is_one_line_without_traceback(arguments, words, capsys):
    assert main(["animesion", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (InputError("b is 2; allowed: 1"), 2, "animesion figures: error: b is 2; allowed: 1\n"),
        (Stopped("stopped and saved"), 0, "animesion figures: stopped and saved\n"),
        (KeyboardInterrupt(), 130, "animesion figures: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            2,
            "animesion figures: error: No space left on device; free some space, and try again\n",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/a"),
            2,
            "animesion figures: error: /a: Permission denied; check the path and its permissions, and try again\n",
        ),
        (
            UnicodeEncodeError("euc_jp", "a\x94", 1, 2, "illegal multibyte sequence"),
            2,
            "animesion figures: error: the locale's encoding, euc_jp, lacks '\\x94'; set PYTHONUTF8=1 or a locale with "
            "UTF-8\n",
        ),
    ],
)
def test_errors_become_exit_statuses(error, status, printed, monkeypatch, capsys):
    def fail(argv):
        raise error

    monkeypatch.setattr(figures, "main", fail)
    assert main(["animesion", "figures"]) == status
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize("platforms", ["cuda", "nonsense"])
def test_missing_device_is_one_line(platforms, bundle_path):
    command = [sys.executable, "-m", "animesion_jax.main", "predict", f"--bundle={bundle_path}", "docs/figures"]
    environment = os.environ | {"JAX_PLATFORMS": platforms}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert result.returncode == 2 and not result.stdout, result
    message = result.stderr.splitlines()[-1]
    assert message.startswith("animesion predict: error: JAX found no device (")
    assert f"JAX_PLATFORMS is '{platforms}'; allowed: cpu, cuda" in message and "Traceback" not in result.stderr


INTERRUPTED_IN_A_DESTRUCTOR = """
import signal, sys, time
from animesion_jax import main
from animesion_jax.cli import figures

class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def work(argv):
    Interrupted()
    time.sleep(20)

figures.main = work
sys.argv = ["animesion", "figures"]
main.run()
"""


def test_interrupt_in_a_destructor_is_not_lost():
    """Python prints "Exception ignored" there and continues."""
    command = [sys.executable, "-c", INTERRUPTED_IN_A_DESTRUCTOR]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=15)
    assert (result.returncode, result.stderr) == (130, "animesion figures: interrupted\n")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a fault"),
        OSError("without a file"),
        AssertionError(),
        RuntimeError(),
        UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
    ],
)
def test_bugs_keep_their_traceback(error, monkeypatch):
    def fail(argv):
        raise error

    monkeypatch.setattr(figures, "main", fail)
    with pytest.raises(type(error)):
        main(["animesion", "figures"])
