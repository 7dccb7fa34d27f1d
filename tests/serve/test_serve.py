"""The command `serve` and its endpoint, in process."""

import io
import os
import re
import socket
from pathlib import Path

import pytest
from PIL import Image

from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from animesion_jax.serve.temporary import temporary_folder
from tests.serve.running import compiled_service, running

pytest.importorskip("gradio", reason="the extra [serve] is not installed")


@pytest.fixture(scope="module")
def service(bundle):
    return compiled_service(bundle)


@pytest.fixture(scope="module")
def client(service, face):
    with running(service, [face]) as (client, _):
        yield client


def _post(client, *files, **more):
    return client.post("/api/predict", files=[("image", (name, content)) for name, content in files], **more)


def test_endpoint_answers_like_predict_without_compiling(client, service, bundle, face):
    compiled = service.recognizer._probabilities._cache_size()
    answer = _post(client, ("face.png", face.read_bytes()), ("notes.txt", b"no image"), ("../../a.png", b""))
    assert answer.status_code == 200
    good, text, empty = answer.json()["results"]
    expected = load(str(bundle)).predict(str(face))[0]
    assert (good["name"], good["predictions"], good["unknown"]) == ("face.png", expected, True)
    assert list(good) == ["name", "unknown", "predictions", "seconds"] and 0 < good["seconds"] < 60
    assert text["name"] == "notes.txt" and "not a readable image" in text["error"] and "PNG" in text["error"]
    assert empty["name"] == "a.png" and "empty" in empty["error"]
    assert service.recognizer._probabilities._cache_size() == compiled == 1
    info = client.get("/api/info").json()
    assert (info["characters"], info["threshold"], info["max_images"], info["detector"]) == (2, 0.6, 3, None)


def test_endpoint_keeps_its_limits_and_names_them(client, face):
    large = _post(client, ("large.png", bytes(150_000))).json()["results"][0]
    assert "too large: 0.143 MB (150,000 bytes); allowed: 0.1 MB (104,857)" in large["error"]
    content = face.read_bytes()
    for answer, status, words in [
        (_post(client, *[("face.png", content)] * 4), 400, ["3"]),
        (_post(client, ("a.png", bytes(2_000_000))), 413, ["too large", "3 images", "0.1 MB"]),
        (client.post("/api/predict", data={"image": "text"}), 415, ["curl -F image=@face.jpg"]),
        (client.post("/api/predict", content=content), 415, ["curl -F"]),
        (client.post("/api/predict", files={"image": (None, "text")}), 400, ["no file", "curl -F image=@face.jpg"]),
        (client.get("/api/predict"), 405, ["by POST"]),
        (
            client.post("/api/predict", content=iter([b"x"]), headers={"content-type": "multipart/form-data"}),
            411,
            ["Content-Length"],
        ),
    ]:
        assert answer.status_code == status
        assert all(word in answer.json()["error"] for word in words), answer.json()


def test_cards_escape_names_and_show_probabilities(service, face, tmp_path):
    from animesion_jax.serve.cards import render

    (tmp_path / "<i>x.png").write_text("no image")
    written = render(service, [face, tmp_path / "<i>x.png"])
    assert "unknown" in written and "60% likely" in written and written.count('src="data:image/webp') == 2
    assert "&lt;b&gt;ame &amp; &quot;co&quot;" in written and "<b>ame" not in written and "<i>x" not in written
    assert written.count("50.0%") == 4 and re.search(r"· \d+ ms", written) and "not a readable image" in written
    assert "4 images in one request; allowed: 1 to 3" in render(service, [face] * 4)


def test_examples_have_any_file_name_and_stay(service, face, tmp_path):
    from gradio.route_utils import delete_files_created_by_app

    from animesion_jax.serve.cards import render
    from animesion_jax.serve.page import create_page

    names = [os.fsdecode(b"\xff.png"), "a\n#?&.png", "あ" * 83 + ".png", ".hidden.png"]
    examples = [tmp_path / name for name in names]
    for path in examples:
        path.write_bytes(face.read_bytes())
    with temporary_folder() as folder:
        page = create_page(service, examples)
        shown = sorted(Path(folder).rglob("*.webp"))
        delete_files_created_by_app(page, age=None)
        assert shown and sorted(Path(folder).rglob("*.webp")) == shown
    written = render(service, examples[:3])
    assert r"\udcff.png ·" in written and r"a\n#?&amp;.png ·" in written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bundle=none.msgpack"], ["none.msgpack", "export"]),
        (["--max_images=0"], ["--max_images is 0", "more than 0"]),
        (["--host=203.0.113.7"], ["203.0.113.7", "an address of this machine"]),
        (["--port=99999"], ["99999", "0 to 65535"]),
        (["--root_path=anime"], ["'anime'", "after a slash", "--root_path=/anime"]),
        (["--root_path=//example.com"], ["'//example.com'", "--root_path=/anime"]),
        (["--root_path=https://example.com/anime"], ["--root_path=/anime"]),
        (["--examples", "absent/"], ["absent", "no such image"]),
    ],
)
def test_serve_refuses_invalid_arguments(bundle, arguments, words, capsys):
    assert main(["animesion", "serve", f"--bundle={bundle}", "--port=0", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message


def test_serve_reports_a_port_in_use_before_compiling(bundle, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["animesion", "serve", f"--bundle={bundle}", f"--port={port}"]) == 2
    error = capsys.readouterr().err
    assert f"--port={port}" in error and "Address already in use" in error


@pytest.mark.parametrize("prefix", ["", "/anime"])
def test_application_answers_below_its_root_path_whether_a_proxy_strips_it(service, face, prefix, monkeypatch):
    monkeypatch.setenv("GRADIO_ROOT_PATH", "/of_another_server")
    content = face.read_bytes()
    with running(service, [face], "/anime") as (client, folder):
        page = client.get(f"{prefix}/", headers={"x-forwarded-host": "example.com", "x-forwarded-proto": "https"})
        assert '"root":"https://example.com/anime"' in page.text
        (example,) = re.findall(r'"url":"https://example\.com/anime(/gradio_api/file=[^"]*)"', page.text)
        with Image.open(io.BytesIO(client.get(f"{prefix}{example}").content)) as image:
            assert image.size == (30, 40)
        (uploaded,) = client.post(f"{prefix}/gradio_api/upload", files={"files": ("a.png", content)}).json()
        assert uploaded.startswith(f"{folder}/") and client.get(f"{prefix}/gradio_api/file={uploaded}").is_success
        assert client.get(f"{prefix}/api/info").json()["characters"] == 2
        answer = client.post(f"{prefix}/api/predict", files={"image": ("a.png", content)})
        assert answer.json()["results"][0]["unknown"]
        assert client.get("/anime", follow_redirects=False).headers["location"].endswith("/anime/")
    assert not folder.exists()
