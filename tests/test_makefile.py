"""The Makefile in a copy of the clone's folder, with a Python that only notes how it was called."""

import os
import runpy
import shutil
import stat
import subprocess
import sys

import pytest

from tests.conftest import ROOT

check = runpy.run_path(str(ROOT / ".ci" / "check_install.py"))
# Runs a script like Python, and makes an environment whose programs are this one again; notes everything else.
FAKE_PYTHON = f"""#!/bin/sh
case "$1 $2" in
  *.py\\ ) exec '{sys.executable}' "$@" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/tfds" ;;
  *) for word in "$(pwd)" "$@"; do printf '%s\\n' "$word" >> "$NOTES"; done; echo built ;;
esac
"""
FAKE_VERSION = f"""#!/bin/sh
exec '{sys.executable}' -c 'import runpy, sys
sys.version_info = (3, VERSION, 0, "final", 0)
runpy.run_path(sys.argv[1], run_name="__main__")' "$@"
"""


@pytest.fixture
def make(tmp_path):
    """Returns a function that runs make in a clone below tmp_path; its output and the words that were noted."""
    python, notes = tmp_path / "python", tmp_path / "notes"

    def make(folder, *arguments, script=FAKE_PYTHON):
        python.write_text(script, encoding="utf-8")
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        notes.write_text("", encoding="utf-8")
        clone = tmp_path / folder / "clone"
        for name in ("Makefile", "setup.py", ".ci/check_install.py"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
        (clone / "tfds_builders" / "toyfaces").mkdir(parents=True)
        command = ["make", "-C", str(clone), f"PYTHON={python}", *arguments]
        environment = os.environ | {"NOTES": str(notes)}
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return clone, result, notes.read_text(encoding="utf-8").splitlines()

    return make


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("folder", ["plain", "a b", "it's #1 %s & <ö> 顔 ;(a) ~ ^ | ]!", "-x --y=z"])
def test_make_demo_writes_only_into_the_clone(make, tmp_path, folder):
    clone, result, notes = make(folder, "demo")
    assert result.returncode == 0, result
    below = tmp_path / folder
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["notes", "python", folder])
    assert [path.name for path in below.iterdir()] == ["clone"]
    assert (clone / "runs" / "demo" / "build.log").read_text(encoding="utf-8") == "built\n"
    assert set(notes) >= {str(clone / "tfds_builders" / "toyfaces"), "--data_dir=../../runs/demo/data", ".[test]"}
    assert "--workdir=runs/demo/run" in notes


@pytest.mark.parametrize("folder", ["[try]", "a {b}", "$(touch x)", "a:b", 'say "a"', "`id`", "a\\b", "what?", "a\nb"])
def test_make_refuses_a_path_that_the_tools_do_not_support_before_writing(make, tmp_path, folder):
    clone, result, notes = make(folder, "demo")
    assert (result.returncode, notes) == (2, [])
    assert "which is not supported; move the clone" in result.stderr
    assert _files(clone) == [".ci/check_install.py", "Makefile", "setup.py"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["notes", "python", folder])


@pytest.mark.parametrize(("version", "works"), [(10, False), (11, True), (13, True), (14, False)])
def test_make_refuses_a_python_that_tensorflow_does_not_support_before_writing(make, version, works):
    clone, result, _ = make("plain", ".venv/.installed", script=FAKE_VERSION.replace("VERSION", str(version)))
    line = f"Python 3.{version} is not supported; allowed: 3.11 to 3.13; choose one: make PYTHON=python3.11 ..."
    assert (line in result.stderr.splitlines()) is not works
    assert _files(clone) == [".ci/check_install.py", "Makefile", "setup.py"]


def test_this_environment_is_allowed():
    assert check["fault"](sys.version_info, "/home/me/animesion") == ""
