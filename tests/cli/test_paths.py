"""Every path of a user may start with `~`, and no command creates a folder of that name."""

import re
import sys

import pytest
from PIL import Image

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import Parser
from animesion_jax.config.fields import FIELDS
from animesion_jax.main import main
from tests.conftest import ROOT
from tests.detection.onnx_files import write_blob_detector
from tfds_builders.toyfaces import draw

# Add a new flag or field to one of the two, and a path also to `COMMAND_LINES`.
PATH_FLAGS = {
    "bundle", "config", "copy", "copy_to", "crops", "data_dir", "detector", "examples", "folder", "images",
    "manual_dir", "output", "overlays", "pictures", "runs", "sidecar_to", "unknown", "workdir",
}  # fmt: skip
OTHER_FLAGS = {
    "accept_changes", "batch_size", "class_name", "config.FIELD", "coordinator_address", "dataset", "distributed",
    "false_accept_rate", "format", "help", "host", "licence", "max_file_mb", "max_images", "min_confidence", "name",
    "no_calibration", "num_processes", "num_shards", "overwrite", "per_class", "port", "preprocessing", "process_id",
    "public", "push", "root_path", "sidecar", "skip_broken", "split", "top_k", "version", "weights", "whole_if_none",
}  # fmt: skip
PATH_FIELDS = {"data_dir", "detector", "folder", "pretrained"}
# Every path, written with braces, is given once in the home folder of a user that is unknown.
COMMAND_LINES = (
    "train --config={root}/configs/common.py --workdir={tmp}/run --config.folder={faces}",
    "train --config={root}/configs/common.py --workdir={tmp}/run --config.data_dir={data} --config.pretrained={tmp}/w",
    "train --config={root}/configs/common.py --workdir=run --config.folder={faces} --config.detector={tmp}/d.onnx",
    "sweep --config={root}/configs/sweep_size.py:shallownet --config.base.data_dir={data} --workdir={tmp}/runs "
    "--config.base.dataset=toyfaces",
    "sweep --config={root}/configs/sweep_size.py:shallownet --config.base.folder={faces} --workdir=runs",
    "evaluate --workdir={run} --data_dir={data} --per_class --output={tmp}/o.csv",
    "evaluate --bundle={bundle} {faces}",
    "export --workdir={run} --output={tmp}/o.msgpack --data_dir={data} --unknown={faces}",
    "export --bundle={bundle} --format=onnx --output={tmp}/o.onnx",
    "calibrate --bundle={bundle} --workdir={run} --data_dir={data} --unknown={faces} --output={tmp}/o.msgpack",
    "predict --bundle={bundle} --output={tmp}/o.csv --copy_to={tmp}/o --sidecar --sidecar_to={tmp}/s {faces}",
    "predict --bundle={bundle} --detector={detector} {faces}",
    "find --bundle={bundle} --detector={detector} --output={tmp}/o.jsonl --crops={tmp}/c --overlays={tmp}/d {faces}",
    "calibrate --bundle={bundle} --detector={detector} --pictures={faces} --output={tmp}/o.msgpack",
    "explain --bundle={bundle} --detector={detector} --output={tmp}/o {faces}",
    "embed --bundle={bundle} --detector={detector} --output={tmp}/o.npz {faces}",
    "enroll --bundle={calibrated} --detector={detector} --name=x --output={tmp}/o.msgpack {faces}",
    "serve --bundle={bundle} --detector={detector} --port=0 --examples={faces}",
    "figures --dataset=toyfaces --data_dir={data} --output={tmp}/o",
    "report {run} --output={tmp}/o",
    "build dafre --manual_dir={faces} --data_dir={tmp}/o",
    "configs --copy={root}/configs/demo.py {tmp}/o",
)
UNKNOWN = "~nobody-of-this-name"
CASES = [(line, word) for line in COMMAND_LINES for word in line.split() if "{" in word]


def _flag(word):
    return word.lstrip("-").partition("=")[0] if word.startswith("--") else ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_listed_as_a_path_or_not(command, monkeypatch):
    """A new flag fails here, so that nobody forgets to expand a path."""
    parsers = []
    monkeypatch.setattr(Parser, "parse_known_args", lambda self, *_: parsers.append(self) or sys.exit())
    with pytest.raises(SystemExit):
        main(["animesion", command])
    actions = parsers[0]._actions
    assert {action.dest for action in actions} <= PATH_FLAGS | OTHER_FLAGS
    tested = {_flag(word) for line, word in CASES if line.split()[0] == command}
    assert {action.dest if action.option_strings else "" for action in actions if action.dest in PATH_FLAGS} <= tested


def test_every_field_of_a_path_is_listed():
    """A new field fails here, if its comment says what it names."""
    texts = {name: field.comment for name, field in FIELDS.items() if isinstance(field.default, str)}
    assert {name for name, comment in texts.items() if re.search(r"\b(file|folder|path)\b", comment)} == PATH_FIELDS
    assert {_flag(word).rpartition(".")[2] for line, word in CASES} >= PATH_FIELDS


@pytest.fixture(scope="module")
def places(trained, bundle_path, calibrated, toyfaces_dir, tmp_path_factory):
    faces = tmp_path_factory.mktemp("faces")
    for name in ("ai/1.png", "ai/2.png", "mei/1.png", "mei/2.png"):
        (faces / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), "pink").save(faces / name)
    return {
        "root": ROOT, "data": toyfaces_dir, "run": trained[0], "bundle": bundle_path, "calibrated": calibrated[0],
        "faces": faces, "detector": write_blob_detector(faces.parent / "d.onnx"),
    }  # fmt: skip


@pytest.mark.parametrize(("line", "path"), CASES)
def test_path_in_an_unknown_home_folder_is_refused(line, path, places, tmp_path, monkeypatch, capsys):
    """A path that is not expanded would be accepted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    given = re.sub(r"{\w+}", UNKNOWN, path)
    words = [given if word == path else word.format(tmp=tmp_path, **places) for word in line.split()]
    main(["animesion", *words])
    printed = "".join(capsys.readouterr())
    value = given.partition("=")[2] or given
    assert f"{value.partition(':')[0]}: the home folder of '{UNKNOWN.partition('/')[0]}' is unknown" in printed
    assert not [each for each in tmp_path.iterdir() if each.name.startswith("~")]


def test_draw_expands_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["draw.py", "--output=~/faces"])
    draw.main()
    assert len(list((tmp_path / "home" / "faces").iterdir())) == 20 and len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr("sys.argv", ["draw.py", f"--output={UNKNOWN}"])
    with pytest.raises(SystemExit):
        draw.main()
    assert capsys.readouterr().err.startswith(f"draw.py: error: {UNKNOWN}: the home folder of '")
