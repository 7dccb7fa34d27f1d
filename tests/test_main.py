import ast
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from animesion_jax.command_line import load_config
from animesion_jax.commands import COMMANDS
from animesion_jax.main import main
from animesion_jax.tensorflow_start import silent_native_stderr

CONFIG = f"--config={ROOT / 'configs' / 'dafre_128.py'}"
SWEEP = f"--config={ROOT / 'configs' / 'sweep_size.py'}:shallownet"
LEAVES = {"atomic", "predictions", "errors", "augment", "metrics", "paper", "workdir", "preemption", "hosts"}
# Modules of the package that each module may import; what is not listed imports only the leaves.
ALLOWED = {
    "main": {"commands", "compilation_cache", "huge_pages"},
    "command_line": {"commands"},
    "commands": {
        "calibrate", "embed", "enroll", "result_file", "sorting", "bundle", "serve", "conversion", "folder_data",
        "command_line", "tensorflow_start", "train", "sweep", "evaluate", "export", "predict", "explain", "report",
        "figures",
    },
    "train": {"run", "checkpoint", "journal", "trainer", "window"},
    "trainer": {
        "run", "optim", "steps", "checkpoint", "data", "train_data", "datasets", "evaluate", "journal", "models",
        "pretrained", "objective", "resident", "window",
    },
    "sweep": {"run", "steps", "datasets", "train"},
    "pretrained": {"pretrained", "run", "bundle", "models"},
    "steps": {"optim", "gradients", "objective", "resident"},
    "gradients": {"mixing", "objective"},
    "window": {"steps"},
    "evaluate": {"run", "steps", "data", "datasets", "per_class"},
    "data": {"datasets"},
    "train_data": {"data", "datasets"},
    "figures": {"datasets"},
    "report": {"report"},
    "predict": {"bundle", "classify", "image_batches", "images"},
    "image_batches": {"images"},
    "classify": {"bundle"},
    "bundle": {"models", "bundle_checks", "bundle_file", ""},
    "bundle_checks": {"models"},
    "calibration": {"bundle"},
    "calibrate": {"bundle", "calibration", "classify", "data", "datasets", "image_batches", "run"},
    "enroll": {"bundle", "predict"},
    "serve": {"serve", "bundle", "explain", "images", "predict", ""},
    "explain": {"bundle", "classify", "images", "models"},
    "export": {"bundle", "run", ""},
    "conversion": {"bundle", "export", "onnx_export", "safetensors_export"},
    "onnx_export": {"bundle", "classify", "onnx_graph", ""},
    "safetensors_export": {"bundle", "models", "pretrained"},
    "run": {"optim", "steps", "checkpoint", "models"},
    "checkpoint": {"steps"},
    "models": {"models"},
}  # fmt: skip


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_modules_import_only_whom_they_may():
    package = ROOT / "animesion_jax"
    for path in package.rglob("*.py"):
        module = path.relative_to(package).parts[0].removesuffix(".py")
        for name in _imports(path):
            top, _, rest = name.partition(".")
            assert top != "configs", f"{path} imports {name}"
            # The commands have the builder of config.folder build; nothing imports commands: that makes no circle.
            assert top != "tfds_builders" or (module == "folder_data" and rest.startswith("folder.prepare")), path
            if top in ("tensorflow", "tensorflow_datasets"):
                assert module in ("data", "train_data", "datasets", "tensorflow_start"), f"{path} imports {name}"
            siblings = {each.stem if each.suffix else each.name for each in package.iterdir()}
            if top == "animesion_jax" and rest.split(".")[0] in siblings:
                sibling = rest.split(".")[0]
                assert sibling in LEAVES | ALLOWED.get(module, set()), f"{path} imports {name}"


def test_predicting_works_without_tensorflow(bundle_path, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), "pink").save(tmp_path / "face.png")
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['tensorflow_datasets'] = None\n"
        "import animesion_jax, animesion_jax.steps, animesion_jax.optim, animesion_jax.export\n"
        f"print(animesion_jax.load({str(bundle_path)!r}).predict({str(tmp_path / 'face.png')!r})[0][0]['class'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip()


def test_evaluate_prints_its_json_and_nothing_else(trained):
    """Neither TensorFlow's C++ start-up lines nor a progress bar where no terminal is."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "animesion_jax.main", "evaluate", f"--workdir={trained[0]}", "--split=validation"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    assert list(json.loads(result.stdout))[:5] == ["split", "examples", "loss", "top1_accuracy", "top5_accuracy"]
    assert not result.stderr


def test_what_native_code_said_is_printed_when_it_fails(capfd):
    with pytest.raises(OSError), silent_native_stderr():
        os.write(2, b"why it failed")
        raise OSError
    with silent_native_stderr():
        os.write(2, b"chatter")
    assert capfd.readouterr().err == "why it failed"


def test_overrides_reach_the_config():
    given = load_config([f"{CONFIG}:vit_s16", "--workdir=w", "--config.batch_size=256"])
    config = given.config
    assert (config.model, config.batch_size, config.dataset, given.workdir) == ("vit_s16", 256, "dafre/released", "w")
    assert not given.accept_changes and not given.hosts.distributed
    assert (config.dropout_rate, config.epochs, config.learning_rate) == (0.1, 50, 1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["fly", "evaluate"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.bach_size=3"], ["field 'bach_size'", "batch_size"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.vit.pol=mean"], ["field 'pol'", "pool"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.epochs=many"], ["config.epochs", "many"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.epochs=0"], ["config.epochs", "0", "more than 0"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.learning_rate=-1"], ["learning_rate", "-1"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.std=(0.5,0.0,0.5)"], ["config.std", "above 0"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.mean=(0.5,0.5)"], ["config.mean", "three numbers"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.dropout_rate=1.0"], ["config.dropout_rate", "less than 1"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.augment.erasing=2"], ["augment.erasing", "2.0", "0 to 1"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.optimizer=adam"], ["config.optimizer", "'adam'", "adamw"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.mixup=-1"], ["config.mixup", "-1", "0 or more"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.cutmix=inf"], ["config.cutmix", "inf", "finite"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.weight_decay=nan"], ["config.weight_decay", "nan"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.label_smoothing=1"], ["label_smoothing", "less than 1"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.ema_decay=1"], ["ema_decay", "less than 1"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.rebalance_epochs=-1"], ["rebalance_epochs", "-1"]),
        ([f"{CONFIG}:shallownet", "--workdir=w", "--config.logit_adjustment=-1"], ["logit_adjustment", "-1"]),
        ([f"{CONFIG}:shallownet,faithful,recipe=modern", "--workdir=w"], ["recipe=modern", "faithful", "exclude"]),
        (
            [f"{CONFIG}:shallownet", "--workdir=w", "--config.dataset=toyface"],
            ["toyface", "dafre, moeimouto, toyfaces"],
        ),
        ([f"--config={ROOT / 'README.md'}", "--workdir=w"], ["--help"]),
        ([f"{CONFIG}:shallownet,pretrained", "--workdir=w"], ["shallownet", "no published weights"]),
        ([f"{CONFIG}:shallownet,fast", "--workdir=w"], ["fast"]),
        ([f"{CONFIG}:shallownet"], ["--workdir"]),
        (["--workdir=w"], ["--config"]),
        (["--config=configs/none.py", "--workdir=w"], ["configs/none.py"]),
        ([SWEEP, "--workdir=w"], ["grid", "sweep"]),
        (["sweep", f"{CONFIG}:shallownet", "--workdir=w"], ["grid", "configs/sweep_size.py"]),
        (["sweep", SWEEP, "--workdir=w", "--config.grid.batch_size=(8,)"], ["dafre/released", "not built"]),
        (["sweep", SWEEP, "--workdir=w", "--config.gird.seed=(8,)"], ["field 'gird'", "animesion sweep"]),
        (
            [f"{CONFIG}:shallownet", "--workdir=w", "--process_id=1"],
            ["--process_id is for --distributed", "give both"],
        ),
        (
            ["evaluate", "--workdir=w", "--distributed", "--num_processes=2"],
            ["--coordinator_address", "some are missing", "allowed: all three"],
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
        (["report"], ["RUN", "--help"]),
        (["report", "nowhere"], ["nowhere", "workdirs"]),
        (["report", "runs", "--weights=first"], ["first", "last", "best"]),
        (["evaluate", "--workdir=w", "--output=classes.csv"], ["classes.csv", "--per_class"]),
        (["predict", "--bundle=none.msgpack", "x.png"], ["none.msgpack", "export"]),
        (["predict", "--bundle=none.msgpack", "--format=xml", "x.png"], ["xml", "json"]),
        (["predict", "--bundel=none.msgpack", "x.png"], ["--bundel=none.msgpack, did you mean --bundle?"]),
        (["predict", "--bundle=none.onnx", "x.png"], ["no bundle at none.onnx"]),
    ],
)
def test_bad_input_is_one_line_and_no_traceback(arguments, words, capsys):
    assert main(["animesion", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    assert all(word in message for word in words), message


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    try:
        main(["animesion", command, "--help"])
    except SystemExit as stop:
        assert not stop.code
    assert "example:\n  python -m animesion_jax.main" in capsys.readouterr().out
