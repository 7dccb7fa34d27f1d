"""Compiled programs are kept for the next process, for each kind of processor."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animesion_jax.cli.compilation_cache import FOLDER, SETTINGS, processor, set_compilation_cache
from animesion_jax.main import main
from tests.conftest import ROOT


def _predict(bundle_path, image, home):
    """Runs predict in its own process, and returns the log of JAX's cache."""
    environment = {name: value for name, value in os.environ.items() if name not in (FOLDER, *SETTINGS)}
    environment |= {"JAX_DEBUG_LOG_MODULES": "jax._src.compiler", "XDG_CACHE_HOME": str(home)}
    command = [sys.executable, "-m", "animesion_jax.main", "predict", f"--bundle={bundle_path}", str(image)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stderr


def test_second_process_compiles_nothing(bundle_path, tmp_path):
    image = tmp_path / "face.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image)
    first, second = (_predict(bundle_path, image, tmp_path / "home") for _ in range(2))
    hit, miss = (f"cache {kind}" for kind in ("hit for 'jit_character_probabilities'", "miss"))
    assert hit not in first.lower() and hit in second.lower() and miss in first.lower()
    kept = list((tmp_path / "home" / "animesion_jax" / "compiled" / processor()).glob("jit_character*-cache"))
    assert len(kept) == 1


@pytest.fixture
def no_folder(monkeypatch):
    """Unsets the folder of the test session and the settings; set ones disappear at the end of the test."""
    monkeypatch.delenv(FOLDER)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in SETTINGS:
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HOME", "{tmp}/file", "Not a directory"),
        ("XDG_CACHE_HOME", "{tmp}/file", "Not a directory"),
        ("XDG_CACHE_HOME", "~nobody-of-this-name/x", "the home folder is unknown; set HOME or XDG_CACHE_HOME"),
        ("XDG_CACHE_HOME", "relative", "the home folder is unknown; set HOME or XDG_CACHE_HOME"),
        ("XDG_CACHE_HOME", "{tmp}/a[b]", "a path with one of * ? ["),
    ],
)
def test_unusable_home_turns_the_cache_off_with_a_message(
    variable, value, words, no_folder, monkeypatch, tmp_path, caplog
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(variable, value.format(tmp=tmp_path))
    with caplog.at_level("INFO"):
        set_compilation_cache()
    assert FOLDER not in os.environ and [path.name for path in tmp_path.iterdir()] == ["file"]
    (message,) = caplog.messages
    assert "the compilation cache is off" in message and words in message and "\n" not in message


def test_user_without_a_name_has_no_cache(no_folder, monkeypatch, tmp_path, caplog):
    """JAX's cache would warn about every program."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with caplog.at_level("INFO"):
        set_compilation_cache()
    assert FOLDER not in os.environ and "is not in /etc/passwd" in caplog.text and not list(tmp_path.iterdir())


def test_cache_that_cannot_be_written_to_is_not_used(no_folder, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with caplog.at_level("INFO"):
        set_compilation_cache()
    assert FOLDER not in os.environ and "cannot be written to" in caplog.text


@pytest.mark.parametrize("command", ["--help", "--version", "predict --help", "predict x", "report x"])
def test_commands_that_compile_nothing_make_no_cache(command, no_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with contextlib.suppress(SystemExit):
        main(["animesion", *command.split()])
    assert not list(tmp_path.iterdir())


def test_predict_makes_the_cache_in_the_expanded_folder(no_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    assert main(["animesion", "predict", "--bundle=none", "x"]) == 2
    assert os.environ[FOLDER] == str(tmp_path / "caches" / "animesion_jax" / "compiled" / processor())
    assert Path(os.environ[FOLDER]).is_dir()


def test_processors_with_other_instructions_have_other_folders(monkeypatch):
    ours = processor()
    lines = Path("/proc/cpuinfo").read_text()
    monkeypatch.setattr(Path, "read_text", lambda self, **_: lines + "\nprocessor : 99\ncpu MHz : 1.0\n")
    assert processor() == ours
    for word in ("flags : fpu amx_tile", "Features : sve2", "model name : Other"):
        monkeypatch.setattr(Path, "read_text", lambda self, word=word, **_: f"{lines}\n{word}\n")
        assert processor() != ours


@pytest.mark.parametrize(("value", "kept"), [("", ""), ("/somewhere", "/somewhere"), ("~/x", "/home/me/x")])
def test_folder_set_by_the_user_is_kept(monkeypatch, value, kept):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(FOLDER, value)
    monkeypatch.delenv(next(iter(SETTINGS)))
    set_compilation_cache()
    assert os.environ[FOLDER] == kept and next(iter(SETTINGS)) not in os.environ
