import os
import signal
import tempfile
import urllib.request
from pathlib import Path

import pytest

from animesion_jax.errors import InputError
from animesion_jax.serve.temporary import GRADIO_FOLDER, temporary_folder
from tests.serve.running import server_process, write_bundle, write_face


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_folder_is_private_and_removed_with_its_files(place, monkeypatch):
    monkeypatch.setenv(GRADIO_FOLDER, "/elsewhere")
    with temporary_folder() as one, temporary_folder() as other:
        assert one != other and os.environ[GRADIO_FOLDER] == other
        for folder in map(Path, (one, other)):
            assert folder.parent == place and folder.stat().st_mode & 0o777 == 0o700
            (folder / "a").mkdir()
            (folder / "a" / "b").write_text("upload")
    assert not list(place.iterdir()) and os.environ[GRADIO_FOLDER] == "/elsewhere"


def test_place_that_cannot_be_written_to_is_named(place, monkeypatch):
    (place / "file").write_text("")
    for name in ("absent", "file"):
        monkeypatch.setenv("TMPDIR", str(place / name))
        with (
            pytest.raises(InputError, match=f"TMPDIR is {place / name} .*; set TMPDIR to a folder"),
            temporary_folder(),
        ):
            pass


def test_machine_without_a_place_for_temporary_files(monkeypatch):
    monkeypatch.setenv("TMPDIR", "")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/absent"])
    with pytest.raises(InputError, match="no folder for temporary files"), temporary_folder():
        pass


@pytest.mark.slow
def test_two_servers_share_a_machine_where_gradios_folder_is_not_theirs(place, tmp_path_factory):
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("inputs")
    bundle, face = write_bundle(folder / "b.msgpack"), write_face(folder / "face.png")
    (place / "gradio").write_text("a folder of somebody else")
    form = b'--LINE\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nx\r\n--LINE--\r\n'
    with (
        server_process(bundle, "--examples", face) as (one, one_address),
        server_process(bundle, "--examples", face) as (other, other_address),
    ):
        for address in (one_address, other_address):
            kind = {"content-type": "multipart/form-data; boundary=LINE"}
            with urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/upload", form, kind)) as answer:
                assert b"/animesion_serve_" in answer.read()
        assert len(list(place.glob("animesion_serve_*"))) == 2
        # An open page keeps a connection.
        pages = [urllib.request.urlopen(f"{each}/gradio_api/heartbeat/page") for each in (one_address, other_address)]
        one.send_signal(signal.SIGTERM)
        other.send_signal(signal.SIGINT)
        assert (one.wait(60), other.wait(60)) == (0, 130)
        for page in pages:
            page.close()
    assert [path.name for path in place.iterdir()] == ["gradio"]
