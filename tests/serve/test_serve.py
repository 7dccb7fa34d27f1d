"""The endpoint and the page of `serve`, in process and in a headless Chromium (slow)."""

import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.request

import flax.serialization
import numpy as np
import pytest
from PIL import Image

from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from tests.conftest import ROOT
from tests.hostile_seeds import CALIBRATION, bundle_tree

pytest.importorskip("gradio", reason="the extra [serve] is not installed")
DRAW = np.random.default_rng(5)
NAME = '<b>ame & "co"</b>'


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A small model whose probabilities are all 0.5, below the threshold."""
    tree = bundle_tree() | {"classes": [NAME, "あかり"], "calibration": CALIBRATION}
    path = tmp_path_factory.mktemp("bundle") / "b.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    """The path of an image."""
    path = tmp_path_factory.mktemp("face") / "face.png"
    Image.fromarray(DRAW.integers(0, 256, (40, 30, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def service(bundle):
    """A compiled service with small limits."""
    from animesion_jax.serve.service import Service

    service = Service(str(bundle), max_file_mb=0.1, max_images=3, top_k=5)
    service.compile()
    return service


@pytest.fixture(scope="module")
def client(service, face):
    """A client of the service's application."""
    from fastapi.testclient import TestClient

    from animesion_jax.serve.api import create_app

    with TestClient(create_app(service, [face])) as client:
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
    assert 0 < good["seconds"] < 60
    assert text["name"] == "notes.txt" and "not a readable image" in text["error"] and "PNG" in text["error"]
    assert empty["name"] == "a.png" and "empty" in empty["error"]
    assert service.recognizer._probabilities._cache_size() == compiled == 1
    info = client.get("/api/info").json()
    assert (info["characters"], info["threshold"], info["max_images"]) == (2, 0.6, 3)


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
    from animesion_jax.serve.page import cards

    (tmp_path / "<i>x.png").write_text("no image")
    written = cards(service, [face, tmp_path / "<i>x.png"])
    assert "unknown" in written and "60% likely" in written and written.count('src="data:image/webp') == 2
    assert "&lt;b&gt;ame &amp; &quot;co&quot;" in written and "<b>ame" not in written and "<i>x" not in written
    assert written.count("50.0%") == 4 and re.search(r"· \d+ ms", written) and "not a readable image" in written
    assert "4 images in one request; allowed: 1 to 3" in cards(service, [face] * 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bundle=none.msgpack"], ["none.msgpack", "export"]),
        (["--max_images=0"], ["--max_images is 0", "more than 0"]),
        (["--host=203.0.113.7"], ["203.0.113.7", "an address of this machine"]),
        (["--port=99999"], ["99999", "0 to 65535"]),
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


@pytest.fixture
def address(bundle, face):
    """The address of a server process on a free port."""
    command = [sys.executable, "-m", "animesion_jax.main", "serve", f"--bundle={bundle}", "--port=0"]
    command += ["--max_file_mb=0.1", "--examples", face]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        lines = iter(server.stderr.readline, "")
        yield next(found.group() for found in (re.search(r"http://127\.0\.0\.1:\d+", line) for line in lines) if found)
        server.terminate()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromedriver"), reason="chromedriver is not installed")
def test_page_in_a_browser_takes_uploads_pastes_and_examples(address, face, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    text, large = tmp_path / "notes.txt", tmp_path / "large.png"
    text.write_text("no image")
    large.write_bytes(bytes(150_000))
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        browser.get(address)
        wait = WebDriverWait(browser, 60)

        def field():
            return wait.until(lambda b: b.find_element(By.CSS_SELECTOR, "#images input[type=file]"))

        def found(selector, words, number=1):
            def there(browser):
                elements = browser.find_elements(By.CSS_SELECTOR, selector)
                return len(elements) == number and words in elements[0].text

            wait.until(there)

        field().send_keys(f"{face}\n{face}")
        found("#results .card", "unknown", 2)
        widths = [bar.size["width"] for bar in browser.find_elements(By.CSS_SELECTOR, "#results .bar i")]
        assert len(widths) == 4 and min(widths) > 50
        assert all(
            browser.execute_script("return arguments[0].naturalWidth", image) > 0
            for image in browser.find_elements(By.CSS_SELECTOR, "#results img")
        )
        field().send_keys(str(text))
        found("#results .error", "not a readable image")
        browser.execute_script(
            """
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
            data.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
            """,
            base64.b64encode(face.read_bytes()).decode(),
        )
        found("#results .card", "pasted.png")
        field().send_keys(f"{large}\n{face}")
        found("#results .error", "the file is too large")
        found("#results .card.unknown", "face.png")
        browser.get(address)
        wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "#examples button"))[-1].click()
        found("#results .card", "unknown")
    with urllib.request.urlopen(f"{address}/api/info") as response:
        assert json.load(response)["characters"] == 2
