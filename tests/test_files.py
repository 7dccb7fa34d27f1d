import errno
import os

import pytest
from etils import epath

from animesion_jax.files import creating, replacing


@pytest.mark.parametrize("before", [None, "old"])
def test_replacing_keeps_the_old_file_until_the_new_one_is_complete(tmp_path, before):
    path = epath.Path(tmp_path) / "results.json"
    if before:
        path.write_text(before)
    with pytest.raises(OSError), replacing(path) as fresh:
        fresh.write_text("half")
        raise OSError("no space left")
    assert [file.read_text() for file in tmp_path.iterdir()] == [before] * bool(before)
    with replacing(path) as fresh:
        fresh.write_text("whole")
        assert path.exists() == bool(before)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "whole")]


@pytest.mark.parametrize("has_links", [True, False])
def test_creating_keeps_a_file_that_appears_meanwhile(tmp_path, monkeypatch, has_links):
    if not has_links:

        def link(source, target):
            raise PermissionError(errno.EPERM, "not on this file system")

        monkeypatch.setattr(os, "link", link)
    with creating(tmp_path / "a") as fresh:
        fresh.write_text("first")
    with pytest.raises(FileExistsError), creating(tmp_path / "a") as fresh:
        fresh.write_text("second")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "first")]
