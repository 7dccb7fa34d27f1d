"""What is compiled is kept for the next process, by kind of processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from animesion_jax.cli.compilation_cache import FOLDER, SETTINGS, keep_compiled, processor
from tests.conftest import ROOT


def _predict(bundle_path, image, home):
    """Runs predict in a process of its own, and returns what JAX says of its cache."""
    environment = {name: value for name, value in os.environ.items() if name not in (FOLDER, *SETTINGS)}
    environment |= {"JAX_DEBUG_LOG_MODULES": "jax._src.compiler", "XDG_CACHE_HOME": str(home)}
    command = [sys.executable, "-m", "animesion_jax.main", "predict", f"--bundle={bundle_path}", str(image)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stderr


def test_the_second_process_compiles_nothing(bundle_path, tmp_path):
    image = tmp_path / "face.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image)
    first, second = (_predict(bundle_path, image, tmp_path / "home") for _ in range(2))
    hit, miss = (f"cache {kind}" for kind in ("hit for 'jit_character_probabilities'", "miss"))
    assert hit not in first.lower() and hit in second.lower() and miss in first.lower()
    kept = list((tmp_path / "home" / "animesion_jax" / "compiled" / processor()).glob("jit_character*-cache"))
    assert len(kept) == 1


def test_a_home_that_cannot_be_written_to_has_none(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv(FOLDER)
    keep_compiled()
    assert FOLDER not in os.environ


def test_another_kind_of_processor_has_another_folder(monkeypatch):
    ours = processor()
    lines = Path("/proc/cpuinfo").read_text()
    monkeypatch.setattr(Path, "read_text", lambda self: lines + "\nprocessor : 99\ncpu MHz : 1.0\n")
    assert processor() == ours
    for word in ("flags : fpu amx_tile", "Features : sve2", "model name : Other"):
        monkeypatch.setattr(Path, "read_text", lambda self, word=word: f"{lines}\n{word}\n")
        assert processor() != ours


@pytest.mark.parametrize("value", ["", "/somewhere"])
def test_a_folder_of_the_users_own_is_left(monkeypatch, value):
    monkeypatch.setenv(FOLDER, value)
    monkeypatch.delenv(next(iter(SETTINGS)))
    keep_compiled()
    assert os.environ[FOLDER] == value and next(iter(SETTINGS)) not in os.environ
