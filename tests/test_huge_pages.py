"""Training starts anew, once, with glibc told to ask for huge pages, where Linux gives them to whoever asks."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from animesion_jax import huge_pages
from animesion_jax.huge_pages import SETTING, TUNABLE, VARIABLE, ask_for_huge_pages

ON_REQUEST = SETTING.exists() and "[madvise]" in SETTING.read_text()


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Sets what the system says of itself; returns the list of the programs started by exec."""
    started = []
    monkeypatch.setattr(os, "execv", lambda path, argv: started.append(argv))
    monkeypatch.setattr(huge_pages, "SETTING", tmp_path / "enabled")
    monkeypatch.setenv(VARIABLE, "")  # so that what is set is taken back
    monkeypatch.delenv(VARIABLE)

    def set_to(setting, libc):
        (tmp_path / "enabled").write_text(setting)
        monkeypatch.setattr(os, "confstr", lambda name: libc)
        return started

    return set_to


def test_the_same_command_is_started_again_once(system, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "animesion_jax.main", "--workdir=w"])
    started = system("always [madvise] never", "glibc 2.36")
    ask_for_huge_pages()
    ask_for_huge_pages()
    assert started == [[sys.executable, "-m", "animesion_jax.main", "--workdir=w"]]
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


def test_what_cannot_be_started_again_goes_on(system, monkeypatch):
    def refuse(path, argv):
        raise FileNotFoundError(path)

    system("always [madvise] never", "glibc 2.36")
    monkeypatch.setattr(os, "execv", refuse)
    ask_for_huge_pages()


def test_the_users_own_setting_is_left(system, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    started = system("always [madvise] never", "glibc 2.36")
    ask_for_huge_pages()
    assert not started and os.environ[VARIABLE] == ""


@pytest.mark.skipif(not ON_REQUEST, reason="this system gives huge pages to all or to none")
@pytest.mark.parametrize(("command", "asks"), [("", True), ("sweep", True), ("predict", False)])
def test_a_large_array_of_a_training_command_is_in_huge_pages(command, asks):
    """The kernel tells: VmFlags "hg" of the mapping that holds an array of 64 MiB."""
    code = (
        "import ctypes, sys, animesion_jax.main as program\n"
        "def main(argv):\n"
        "    malloc = ctypes.CDLL(None).malloc\n"
        "    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]\n"
        "    place, inside = malloc(2**26) + 2**25, False\n"
        "    for line in open('/proc/self/smaps'):\n"
        "        ends = line.split()[0].split('-')\n"
        "        if len(ends) == 2:\n"
        "            inside = int(ends[0], 16) <= place < int(ends[1], 16)\n"
        "        elif inside and line.startswith('VmFlags'):\n"
        "            print(argv[1:], 'hg' in line.split())\n"
        "program.main = main\n"
        "program.run()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    arguments = [command] if command else ["--workdir=w"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.stdout == f"{arguments} {asks}\n", result.stderr
