"""Compiled programs are kept for the next process, for each kind of processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animesion_jax.cli.compilation_cache import FOLDER, SETTINGS, processor, set_compilation_cache
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


def test_unwritable_home_has_no_cache(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv(FOLDER)
    set_compilation_cache()
    assert FOLDER not in os.environ


def test_processors_with_other_instructions_have_other_folders(monkeypatch):
    ours = processor()
    lines = Path("/proc/cpuinfo").read_text()
    monkeypatch.setattr(Path, "read_text", lambda self: lines + "\nprocessor : 99\ncpu MHz : 1.0\n")
    assert processor() == ours
    for word in ("flags : fpu amx_tile", "Features : sve2", "model name : Other"):
        monkeypatch.setattr(Path, "read_text", lambda self, word=word: f"{lines}\n{word}\n")
        assert processor() != ours


@pytest.mark.parametrize("value", ["", "/somewhere"])
def test_folder_set_by_the_user_is_kept(monkeypatch, value):
    monkeypatch.setenv(FOLDER, value)
    monkeypatch.delenv(next(iter(SETTINGS)))
    set_compilation_cache()
    assert os.environ[FOLDER] == value and next(iter(SETTINGS)) not in os.environ
