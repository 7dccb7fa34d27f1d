"""Downloads from servers on loopback."""

import hashlib
import http.server
import os
import threading

import numpy as np
import pytest

from animesion_jax import hub
from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.hub import downloads
from animesion_jax.pretrained import sources

BODY = np.random.default_rng(0).bytes(300_000)
SUFFIXES = (".npz", ".pth", ".safetensors")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `BODY`; `server.mode` selects a fault.

    Modes: "" sends it whole; "half" ends after half of it; a number refuses; "no length" and "chunked" send no length;
    "half chunked" ends without the mark of the last chunk; "stall" waits for `server.gate` after half.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mode = self.server.mode
        self.server.requests.append(self.path)
        self.close_connection = True
        if mode.isdigit():
            return self.send_error(int(mode))
        self.send_response(200)
        if "chunked" in mode:
            self.send_header("Transfer-Encoding", "chunked")
        elif mode != "no length":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        sent = BODY[: len(BODY) // 2] if "half" in mode else BODY
        if "chunked" in mode:
            sent = b"%x\r\n%s\r\n" % (len(sent), sent) + (b"" if "half" in mode else b"0\r\n\r\n")
        if mode == "stall":
            self.wfile.write(sent[: len(BODY) // 2])
            self.server.gate.wait(20)
            sent = sent[len(BODY) // 2 :]
        return self.wfile.write(sent)

    def log_message(self, *_):
        pass


def _serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.mode, server.requests, server.gate = "", [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of `BODY`; the cache is tmp_path/cache."""
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(tmp_path / "cache"))
    with _serve(Handler) as server:
        yield server
        server.shutdown()


def _files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def _fail(address, *words):
    with pytest.raises(InputError) as caught:
        hub.fetch(address)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def test_fetch_downloads_once_and_then_uses_the_cache(server, tmp_path, capsys):
    address = f"{server.url}/a/R50%2Bx.npz"
    file = hub.fetch(address).path
    assert file.parent == tmp_path / "cache" and file.name.endswith("-R50+x.npz") and file.read_bytes() == BODY
    assert hub.fetch(address).path == file and server.requests == ["/a/R50%2Bx.npz"]
    assert _files(tmp_path) == [file.name]
    assert capsys.readouterr().err == f"downloading {address} to {file}\n"  # no progress bar outside a terminal
    umask = os.umask(0o22)
    os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("half", ["150,000 of 300,000 bytes"]),
        ("half chunked", ["IncompleteRead"]),
        ("no length", ["length"]),
        ("403", ["403"]),
    ],
)
def test_fetch_failure_leaves_no_file_and_says_where_to_put_it(server, tmp_path, mode, words):
    server.mode, address = mode, f"{server.url}/w.npz"
    _fail(address, address, *words, f"put the file at {hub.cache_path(address)}", "path of your copy")
    assert not _files(tmp_path)
    server.mode = "chunked" if "chunked" in mode else ""
    assert hub.fetch(address).path.read_bytes() == BODY


def test_fetch_without_network_takes_a_file_that_was_put_into_the_cache(server):
    server.shutdown()
    server.server_close()
    address = f"{server.url}/w.npz"
    _fail(address, address, "refused", f"put the file at {hub.cache_path(address)}")
    hub.cache_path(address).write_bytes(BODY)
    assert hub.fetch(address).path.read_bytes() == BODY


def test_fetch_in_two_threads_downloads_into_two_temporary_files(server, tmp_path):
    server.mode, address, results = "stall", f"{server.url}/w.npz", []
    threads = [threading.Thread(target=lambda: results.append(hub.fetch(address).path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(server.requests) < 2:
        threading.Event().wait(0.01)
    assert not hub.cache_path(address).exists()
    server.gate.set()
    for thread in threads:
        thread.join(20)
    assert results == [hub.cache_path(address)] * 2 and results[0].read_bytes() == BODY
    assert _files(tmp_path) == [results[0].name]


def test_fetch_checks_the_checksum_in_torchvisions_names(server, tmp_path):
    digest = hashlib.sha256(BODY).hexdigest()[:8]
    assert hub.fetch(f"{server.url}/resnet18-{digest}.pth?download=true").path.suffix == ".pth"
    _fail(f"{server.url}/resnet18-01234567.pth?download=true", f"starts with {digest}", "not with 01234567")
    assert len(_files(tmp_path)) == 1


def test_fetch_of_a_public_bucket_uses_https(server, monkeypatch):
    monkeypatch.setattr(downloads, "BUCKETS", server.url)
    assert hub.fetch("gs://b/x y+.npz").path.read_bytes() == BODY
    assert server.requests == ["/b/x%20y%2B.npz"]


def test_fetch_of_a_private_bucket_uses_etils(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "BUCKETS", server.url)
    monkeypatch.setattr(
        downloads.epath, "Path", {"gs://b/w.npz": downloads.epath.Path(tmp_path / "bucket")}.__getitem__
    )
    server.mode = "403"
    _fail("gs://b/w.npz", "gs://b/w.npz", "not public", "credentials failed", "No such file")
    (tmp_path / "bucket").write_bytes(BODY[::-1])
    assert hub.fetch("gs://b/w.npz").path.read_bytes() == BODY[::-1]
    assert len(_files(tmp_path)) == 2


@pytest.mark.parametrize("path", ["/..", "/a/..%2f..%2fx.npz", "/..%5C..%5Cx.npz", "/%00x.npz", "/", "/é ü.npz?x=1"])
def test_fetch_writes_into_the_cache_folder_only(server, tmp_path, path):
    file = hub.fetch(f"{server.url}{path}").path
    assert file.parent == tmp_path / "cache" and file.read_bytes() == BODY
    assert _files(tmp_path) == [file.name]


def test_cache_path_differs_between_addresses():
    paths = ["a..b.npz", "a_b.npz", "../a.npz", "_/a.npz", "a.npz", "a.npz?v=1", "%5Fa.npz", "\\a.npz"]
    assert len({hub.cache_path(f"https://h/{path}") for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({}, "/home/me/.cache/animesion_jax"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/animesion_jax"),
        ({"XDG_CACHE_HOME": "/caches", "ANIMESION_CACHE": "~/weights [1]"}, "/home/me/weights [1]"),
    ],
)
def test_cache_path_is_in_the_users_cache_folder(monkeypatch, variables, folder):
    for name in ("XDG_CACHE_HOME", hub.CACHE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    assert str(hub.cache_path("https://h/a.npz").parent) == folder


def test_fetch_without_a_home_folder_says_what_to_set(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(hub.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name")
    _fail("https://127.0.0.1:1/w.npz", "the home folder is unknown; set HOME or XDG_CACHE_HOME")
    monkeypatch.setattr(constants, "HF_HOME", "~/.cache/huggingface")
    _fail("hf://owner/repo/w.npz", "hf://owner/repo/w.npz", "the home folder is unknown; set HOME or HF_HOME")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file:///etc/passwd.npz", ["cannot be read", "allowed: a local path, hf://"]),
        ("google/imagenet21k/ViT-B_61", ["google/imagenet21k/ViT-B_16"]),
        ("~nobody-of-this-name/x.npz", ["~nobody-of-this-name/x.npz"]),
        ("https://127.0.0.1:1/weights.h5", ["weights.h5", "'.h5'", ".safetensors"]),
        ("https://[x/y.npz", ["https://[x/y.npz", "path of your copy"]),
        ("https://127.0.0.1:port/y.npz", ["port"]),
        ("hf://owner", ["hf://owner", "hf://OWNER/REPO[@REVISION][/FILE]"]),
        ("hf://owner/repo/../../x.npz", ["hf://owner/repo/../../x.npz", "not the path of a file"]),
    ],
)
def test_locate_refuses_invalid_and_missing_sources_in_one_line(server, tmp_path, path, words):
    with pytest.raises(InputError) as caught:
        sources.locate(path, SUFFIXES)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert not _files(tmp_path) and not server.requests


@pytest.mark.parametrize("address", ["HF://owner/repo", "s3://bucket/file.msgpack", "file:///tmp/file.msgpack"])
def test_addresses_of_other_schemes_are_refused(address):
    for read in (hub.check_scheme, load_bundle):
        with pytest.raises(InputError, match="cannot be read; allowed: a local path, hf://, https://, http://, gs://"):
            read(address)
