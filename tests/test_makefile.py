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
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
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
    assert set(notes) >= {str(clone), "--data_dir=runs/demo/data", ".[test]", "--workdir=runs/demo/run"}
    last = [line for line in result.stdout.splitlines() if not line.startswith("make")][-1]
    assert last.startswith(".venv/bin/animesion serve --bundle=runs/demo/demo.msgpack ")
    assert last.endswith("http://127.0.0.1:7860")


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


@pytest.fixture
def find_newest(tmp_path):
    """Returns a function that runs .ci/newest_python.py as Python 3.12, with programs that print a text or fail."""

    def find_newest(programs, this=12):
        for name, printed in programs.items():
            program = tmp_path / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(f"#!/bin/sh\n{f'echo {printed}' if printed else 'exit 127'}\n", encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        code = (
            f"import runpy, sys; from types import SimpleNamespace; sys.version_info = SimpleNamespace(minor={this}); "
            f"sys.path[:0] = [{str(ROOT / '.ci')!r}]; "
            f"runpy.run_path({str(ROOT / '.ci' / 'newest_python.py')!r}, run_name='__main__')"
        )
        environment = {"PATH": f"{tmp_path / 'shims'}:{tmp_path / 'bin'}", "HOME": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )

    return find_newest


@pytest.mark.parametrize(
    ("programs", "found"),
    [
        # A shim that fails, and the version behind it.
        ({"shims/python3.13": "", ".pyenv/versions/3.13.1/bin/python": "13"}, ".pyenv/versions/3.13.1/bin/python"),
        ({"shims/python3.13": "", "bin/python3.13": "13", "bin/python3.12": "12"}, "bin/python3.13"),
        # None that runs; an older one; a version that is not supported.
        ({"bin/python3.13": ""}, ""),
        ({"bin/python3.12": "12", "bin/python3.14": "14", ".pyenv/versions/3.12.1/bin/python": "12"}, ""),
        # Not what its name says.
        ({"bin/python3.13": "12"}, ""),
    ],
)
def test_newest_python_is_found_on_the_path_or_in_pyenv_if_it_runs(find_newest, tmp_path, programs, found):
    result = find_newest(programs)
    assert result.stdout == (f"{tmp_path / found}\n" if found else ""), result.stderr
    assert (result.returncode == 0) is bool(found)
    assert ("NOT TESTED" in result.stderr) is not bool(found)


def test_newest_python_is_not_sought_by_the_newest(find_newest):
    result = find_newest({"bin/python3.13": "13"}, this=13)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Python 3.13 is the newest")
