"""Images from bytes and file objects have the same pixels and limits as images from paths."""

import io
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.images import content, read_image

PIXELS = np.random.default_rng(4).integers(0, 256, (9, 7, 3), np.uint8)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The path of an image of `PIXELS`."""
    path = tmp_path_factory.mktemp("image") / "a.png"
    Image.fromarray(PIXELS).save(path)
    return path


def _response(data):
    """Returns the response of a server, which cannot seek."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    response = urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/")
    server.server_close()
    return response


def _pipe(data):
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return open(read, "rb")


def _at_end(data):
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)
    return file


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO, _at_end, _pipe, _response])
def test_read_image_takes_content(image, wrap):
    source = wrap(image.read_bytes())
    np.testing.assert_array_equal(read_image(source), PIXELS)
    getattr(source, "close", lambda: None)()


@pytest.mark.parametrize("buffering", [-1, 0])
def test_read_image_takes_open_files(image, buffering):
    with image.open("rb", buffering) as file:
        np.testing.assert_array_equal(read_image(file), PIXELS)


def _closed(data):
    file = io.BytesIO(data)
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "the file is empty"),
        (io.BytesIO(), "the file is empty"),
        (b"no image", "cannot identify its format"),
        (io.StringIO("text"), "does not return bytes; open it with mode 'rb'"),
        (_closed(b"a"), "closed file"),
    ],
)
def test_read_image_refuses_other_content_in_one_line(source, words):
    with pytest.raises(InputError, match=words) as caught:
        read_image(source)
    assert "\n" not in str(caught.value)


def test_read_image_refuses_files_opened_as_text(image):
    with image.open(encoding="utf-8") as file, pytest.raises(InputError, match="open it with mode 'rb'"):
        read_image(file)


def test_read_image_limits_content_like_files(image, monkeypatch):
    buffer = io.BytesIO()
    Image.new("1", (20_000, 4_000)).save(buffer, "PNG")
    with pytest.raises(InputError, match=r"too large: 20000 x 4000 pixels in a file of \d+ bytes"):
        read_image(buffer)
    monkeypatch.setattr(content, "MAX_BYTES", 2**22)
    with open("/dev/zero", "rb") as endless, pytest.raises(InputError, match="too large: over 4194304 bytes"):
        read_image(endless)
