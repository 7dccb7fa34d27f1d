"""Training starts anew, once, with glibc told to ask for huge pages, where Linux gives them to whoever asks."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from animesion_jax import huge_pages
from animesion_jax.huge_pages import TUNABLE, VARIABLE, ask_for_huge_pages

STARTED = ["python", "-m", "animesion_jax.main", "--workdir=w"]


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Sets what the system says of itself; returns the list of the programs started by exec."""
    started = []
    monkeypatch.setattr(os, "execv", lambda path, argv: started.append(argv))
    monkeypatch.setattr(sys, "orig_argv", STARTED)
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
    monkeypatch.setenv(VARIABLE, "")  # so that what is set is taken back
    monkeypatch.delenv(VARIABLE)

    def set_to(setting, libc):
        (tmp_path / "enabled").write_text(setting)
        monkeypatch.setattr(os, "confstr", lambda name: libc)
        return started

    return set_to


@pytest.mark.parametrize("command", [STARTED, ["python", "/venv/bin/animesion", "sweep"]])
def test_the_same_command_is_started_again_once(system, monkeypatch, command):
    monkeypatch.setattr(sys, "orig_argv", command)
    started = system("always [madvise] never", "glibc 2.36")
    ask_for_huge_pages()
    ask_for_huge_pages()
    assert started == [[sys.executable, *command[1:]]]
    assert os.environ[VARIABLE] == TUNABLE


@pytest.mark.parametrize(
    ("setting", "libc"),
    [
        ("[always] madvise never", "glibc 2.36"),
        ("always madvise [never]", "glibc 2.36"),
        ("always [madvise] never", "glibc 2.34"),
        ("always [madvise] never", None),
        ("always [madvise] never", "glibc unknown"),
    ],
)
def test_other_systems_are_left_alone(system, setting, libc):
    started = system(setting, libc)
    ask_for_huge_pages()
    assert not started and VARIABLE not in os.environ


@pytest.mark.parametrize("command", [["python"], ["python", "-i"], ["python", "-m", "pdb", "-m", "animesion_jax.main"]])
def test_what_else_python_runs_is_not_begun_again(system, monkeypatch, command):
    monkeypatch.setattr(sys, "orig_argv", command)
    started = system("always [madvise] never", "glibc 2.36")
    ask_for_huge_pages()
    monkeypatch.setattr(sys, "orig_argv", STARTED)
    monkeypatch.setattr(sys, "executable", "")
    ask_for_huge_pages()
    assert not started and VARIABLE not in os.environ


def test_what_cannot_be_started_again_goes_on(system, monkeypatch):
    asked = []

    def refuse(path, argv):
        asked.append(path)
        raise FileNotFoundError(path)

    system("always [madvise] never", "glibc 2.36")
    monkeypatch.setattr(os, "execv", refuse)
    ask_for_huge_pages()
    assert asked == [sys.executable]


def test_the_users_own_setting_is_left(system, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    started = system("always [madvise] never", "glibc 2.36")
    ask_for_huge_pages()
    assert not started and os.environ[VARIABLE] == ""


@pytest.mark.skipif(not huge_pages.are_given_on_request(), reason="this system gives huge pages to all or to none")
@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        (["-m", "animesion_jax.main", "--help"], True),
        (["-m", "animesion_jax.main", "sweep", "--help"], True),
        (["-m", "animesion_jax.main", "predict", "--help"], False),
        (["-c", "from animesion_jax.main import run; run()", "--help"], False),
    ],
)
def test_a_large_array_of_a_training_command_is_in_huge_pages(arguments, asks, tmp_path):
    """The kernel tells: VmFlags "hg" of the mapping that holds an array of 64 MiB at the end of the program."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, ctypes\n"
        "@atexit.register\n"
        "def tell():\n"
        "    malloc = ctypes.CDLL(None).malloc\n"
        "    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "    place, inside = malloc(2**26) + 2**25, False\n"
        "    for line in open('/proc/self/smaps'):\n"
        "        ends = line.split()[0].split('-')\n"
        "        if len(ends) == 2:\n"
        "            inside = int(ends[0], 16) <= place < int(ends[1], 16)\n"
        "        elif inside and line.startswith('VmFlags'):\n"
        "            print('huge pages:', 'hg' in line.split())\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment["PYTHONPATH"] = str(tmp_path)
    command = [sys.executable, *arguments]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.startswith("usage: animesion") and told.splitlines()[-1] == f"huge pages: {asks}"
