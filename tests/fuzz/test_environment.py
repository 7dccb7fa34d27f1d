"""The state of the home folder, the caches, the temporary folder, the locale and the umask."""

import contextlib
import io
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from animesion_jax.cli.compilation_cache import FOLDER, SETTINGS
from animesion_jax.configs import common
from animesion_jax.errors import InputError
from animesion_jax.library.folder import build_folder
from animesion_jax.main import main
from tests.conftest import ROOT
from tests.fuzz import fuzz
from tfds_builders.toyfaces import draw

# Folders below a new one: usable, missing, read-only, not a folder, relative, with odd names; None for unset.
FOLDERS = (
    None, "", "{}/plain", "{}/missing/below", "{}/read_only", "{}/file", "/proc/none", "relative", "{}/a b", "{}/[x]*?",
    "{}/line\nend", "{}/顔 é", "{}/\udcff", "{}/it's $HOME \"`id`\"", "~nobody-of-this-name/x", "~", "{}/" + "x" * 255,
)  # fmt: skip
STATES = st.fixed_dictionaries(
    {
        **{name: st.sampled_from(FOLDERS) for name in ("HOME", "XDG_CACHE_HOME", "ANIMESION_CACHE", "TMPDIR")},
        "encoding": st.sampled_from(["utf-8", "latin-1", "ascii", "euc_jp", "cp932"]),
        "umask": st.sampled_from([0, 0o22, 0o77]),
        "named": st.booleans(),
    }
)
NO_HOME = {
    "HOME": None, "XDG_CACHE_HOME": None, "ANIMESION_CACHE": None, "TMPDIR": None, "encoding": "ascii", "umask": 0o77,
    "named": False,
}  # fmt: skip


def _unknown_user(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")


# TMPDIR changes.
ROOT_FOLDER = tempfile.gettempdir()


@contextlib.contextmanager
def _environment(state):
    """Sets a state in this process, with a new current folder, and yields this folder and the bytes of stdout."""
    with tempfile.TemporaryDirectory(dir=ROOT_FOLDER) as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder, "read_only").mkdir(mode=0o500)
        Path(folder, "file").touch()
        (current := Path(folder, "current")).mkdir()
        for name in ("HOME", "XDG_CACHE_HOME", "ANIMESION_CACHE", "TMPDIR"):
            patch.delenv(name, raising=False)
            if state[name] is not None:
                patch.setenv(name, state[name].format(folder))
        for name in (FOLDER, *SETTINGS):
            patch.setenv(name, "")
        patch.delenv(FOLDER)
        if not state["named"]:
            patch.setattr(pwd, "getpwuid", _unknown_user)
        patch.setattr(tempfile, "tempdir", None)
        patch.chdir(current)
        stdout = io.TextIOWrapper(io.BytesIO(), state["encoding"])
        patch.setattr(sys, "stdout", stdout)
        before = os.umask(state["umask"])
        try:
            yield current, lambda: stdout.flush() or stdout.buffer.getvalue()
        finally:
            os.umask(before)


def _clean(current):
    """Returns whether no command has left a folder named "~", or a temporary file."""
    return not [path for path in current.rglob("*") if path.name.startswith("~") or path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    for number, name in enumerate(("é か", "ai")):
        (folder / name).mkdir()
        for image in range(4):
            Image.new("RGB", (8, 8), (40 * image, 90 * number, 50)).save(folder / name / f"{image} 顔.png")
    return folder


@fuzz
@given(STATES)
@example(NO_HOME)
def test_predict_prints_utf8_in_every_environment(calibrated, faces, caplog, state):
    with _environment(state) as (current, printed):
        caplog.clear()
        assert main(["animesion", "predict", f"--bundle={calibrated[0]}", "--format=json", str(faces / "ai")]) == 0
        rows = json.loads(printed().decode())
        assert [row["path"] for row in rows] == [str(faces / "ai" / f"{image} 顔.png") for image in range(4)]
        assert sum("compilation cache" in message for message in caplog.messages) <= 1 and _clean(current)


@fuzz
@given(STATES)
@example(NO_HOME)
def test_help_is_printed_in_every_environment(caplog, state):
    with _environment(state) as (current, printed):
        caplog.clear()
        with pytest.raises(SystemExit) as stop:
            main(["animesion", "--help"])
        assert not stop.value.code and b"usage: animesion train" in printed()
        assert not caplog.messages and not list(current.iterdir())


@fuzz
@given(STATES, st.sampled_from(["data", "a b/[1]*", "~/data", "data\udcff", "é か"]))
@example(NO_HOME, "~/data")
def test_folder_is_built_or_refused_in_one_line(faces, state, data_dir):
    config = common.get_config()
    config.folder, config.data_dir = str(faces), data_dir
    with _environment(state) as (current, _):
        try:
            build_folder(config)
        except InputError as error:
            assert "\n" not in str(error) and ("~" in data_dir or "\udcff" in data_dir)
        except OSError as error:
            assert "~" in data_dir and error.filename
        else:
            assert config.dataset.startswith("folder/")
        assert _clean(current)


@fuzz
@given(STATES, st.sampled_from(["faces", "a b/[1]*", "~/faces", "é\udcff", "file/below", "x\ny"]))
@example(NO_HOME, "~/faces")
@example(NO_HOME | {"HOME": "~nobody-of-this-name"}, "~/faces")
def test_draw_writes_faces_or_refuses_in_one_line(state, output):
    with _environment(state) as (current, printed), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["draw.py", f"--output={output}"])
        patch.setattr("sys.stderr", io.StringIO())
        patch.setattr(draw, "CHARACTERS", draw.CHARACTERS[:1])
        try:
            draw.main()
        except SystemExit:
            assert len(sys.stderr.getvalue().splitlines()) == 1
        else:
            assert printed().startswith(b"wrote 1 new faces to ")
        assert _clean(current)


WITHOUT_HOME = """
import os, pwd, sys

def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")

pwd.getpwuid = unknown
from animesion_jax import main
main.run()
"""


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("predict --bundle={bundle} {faces}", ["the compilation cache is off: the home folder is unknown"]),
        pytest.param("figures --dataset=toyfaces --data_dir={data} --output=o", [], marks=pytest.mark.slow),
    ],
)
def test_user_without_home_and_name_is_told_once(command, told, calibrated, toyfaces_dir, faces, tmp_path):
    """TensorFlow and JAX read the environment when they are imported, so these are processes."""
    unset = ("HOME", "XDG_CACHE_HOME", "KERAS_HOME", FOLDER, *SETTINGS)
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"PYTHONPATH": str(ROOT)}
    places = {"bundle": calibrated[0], "data": toyfaces_dir, "faces": faces}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME, *(word.format(**places) for word in command.split())],
        cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    logged = re.findall(r"^\d\d:\d\d:\d\d (.*?);", result.stderr, re.MULTILINE)
    assert logged == told and "Traceback" not in result.stderr
    assert not list(tmp_path.glob("~*"))
