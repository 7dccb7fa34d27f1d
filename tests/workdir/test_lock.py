"""One training at a time in a workdir, and paths that checkpoints do not support."""

import os
import signal
import subprocess
import sys

import pytest

from animesion_jax.errors import InputError
from animesion_jax.training.train import train
from animesion_jax.workdir.lock import check_path, locked_workdir
from tests.conftest import ROOT

HOLD = (
    "import sys; from animesion_jax.files import locked\nwith locked(sys.argv[1], 'held'): print(flush=True); input()"
)


def test_second_training_is_refused_while_the_first_runs(tmp_path, toy_config):
    workdir = tmp_path / "run"
    with locked_workdir(str(workdir)):
        with pytest.raises(InputError, match=f"another training is running in --workdir={workdir}; "):
            train(toy_config, str(workdir))
        assert list(workdir.iterdir()) == []
    assert not workdir.exists()


def test_lock_is_free_after_a_kill(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match="another training"), locked_workdir(str(tmp_path)):
            pass
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with locked_workdir(str(tmp_path)):
        pass
    assert tmp_path.exists()


@pytest.mark.parametrize("name", ["[try]", "[2024] anime/run", "what?", "a*b", "a\\b"])
def test_path_that_checkpoints_do_not_support_is_refused_before_the_data_is_read(tmp_path, toy_config, name):
    toy_config.dataset = "missing"
    with pytest.raises(InputError, match="which checkpoints do not support; allowed: "):
        train(toy_config, str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_path_that_tensorstore_writes_in_another_encoding_is_refused(tmp_path, monkeypatch):
    """TensorStore would write the arrays to another folder."""
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("latin-1"))
    with pytest.raises(InputError, match="not valid UTF-8"):
        check_path(str(tmp_path / "é"))
    assert check_path(str(tmp_path / "e")) == tmp_path / "e"


def test_workdir_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to"), locked_workdir(str(tmp_path / "file" / "run")):
        pass
