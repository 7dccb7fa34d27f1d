"""Uploads with any file name, type and content: never a server error, never a file outside the server's folder."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz import fuzz
from tests.serve.running import compiled_service, running, write_bundle, write_face

pytest.importorskip("gradio", reason="the extra [serve] is not installed")
texts = st.text(st.characters(codec="utf-8"), max_size=260).map(str.encode)
paths = (
    "../../a.png",
    "..",
    ".",
    "/etc/passwd",
    "C:\\a\\b.png",
    "\0.png",
    "a\r\nb",
    'a"b',
    "x" * 255,
    "あ" * 83 + ".png",
)
names = st.one_of(texts, st.binary(max_size=260), st.sampled_from(paths).map(str.encode))
charsets = st.sampled_from(["", "utf-8", "latin-1", "utf-7", "utf-16", "undefined", "punycode", "idna", "hex", "none"])
contents = st.sampled_from(["face", "empty", "text", "large"])


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    return write_face(tmp_path_factory.mktemp("face") / "face.png").read_bytes()


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return compiled_service(write_bundle(tmp_path_factory.mktemp("bundle") / "b.msgpack"))


@pytest.fixture(scope="module")
def served(service, tmp_path_factory):
    """(client, folder of the server's files, folder of all temporary files)."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(place))
        patch.setattr(tempfile, "tempdir", str(place))
        with running(service) as (client, folder):
            yield client, folder, place
    assert not list(place.iterdir())


def _form(parts) -> bytes:
    """Returns the body of a form of (name of the part, file name or None, content type, content)."""
    body = b""
    for field, name, kind, content in parts:
        file = b"" if name is None else b'; filename="' + name + b'"'
        body += b"--LINE\r\nContent-Disposition: form-data; name=" + field + file + b"\r\nContent-Type: " + kind
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--LINE--\r\n"


def _post(client, path, parts, charset=""):
    kind = "multipart/form-data; boundary=LINE" + (f"; charset={charset}" if charset else "")
    return client.post(path, content=_form(parts), headers={"content-type": kind})


@fuzz
@given(st.lists(st.tuples(st.none() | names, texts, contents), max_size=4), charsets)
@example([(b"a.png", b"image/png", "face")], "undefined")
@example([(b"+2AA-", b"", "face")], "utf-7")
def test_endpoint_answers_any_form(served, face, parts, charset):
    client, folder, place = served
    bytes_of = {"face": face, "empty": b"", "text": b"no image", "large": bytes(150_000)}
    before = sorted(folder.rglob("*"))
    answer = _post(
        client, "/api/predict", [(b"image", name, kind, bytes_of[what]) for name, kind, what in parts], charset
    )
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        # A file name with a line break or a quote may end the header early, so that fewer parts are files.
        assert len(answer.json()["results"]) <= len(parts)
        assert all(("error" in each) != ("predictions" in each) for each in answer.json()["results"])
    else:
        assert answer.json()["error"]
    assert sorted(folder.rglob("*")) == before and [folder] == list(place.iterdir())


@fuzz
@given(names, texts, contents, st.sampled_from(["", "?upload_id=1"]))
@example("あ".encode() * 85, b"", "face", "")
def test_page_recognises_uploads_of_any_name(served, service, face, name, kind, what, query):
    from animesion_jax.serve.cards import render

    client, folder, place = served
    content = {"face": face, "empty": b"", "text": b"no image", "large": bytes(150_000)}[what]
    # Browsers escape these three.
    for letter in b'\r\n"':
        name, kind = (text.replace(bytes([letter]), b"%%%02X" % letter) for text in (name, kind))
    answer = _post(client, f"/gradio_api/upload{query}", [(b"files", name, kind, content)])
    assert answer.status_code in (200, 400)
    assert [folder] == list(place.iterdir())
    if answer.status_code == 200:
        (path,) = map(Path, answer.json())
        assert path.resolve().is_relative_to(folder) and path.read_bytes() == content
        shown = render(service, [path])
        assert ("unknown" in shown) == (what == "face") and ('class="error"' in shown) == (what != "face")
        assert len(os.fsencode(path.name)) <= 255
