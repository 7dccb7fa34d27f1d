"""Bundles behind http:// addresses, from a server on loopback."""

import functools
import hashlib
import http.server
import threading

import flax.serialization
import pytest

import animesion_jax
from animesion_jax import hub
from animesion_jax.bundle import build_bundle, extend_bundle, load_bundle
from animesion_jax.errors import InputError
from animesion_jax.export.onnx import write_onnx
from tests.hostile_seeds import CALIBRATION, bundle_tree


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server of the files in tmp_path/files; the cache is tmp_path/cache."""
    monkeypatch.setenv(hub.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "files").mkdir()
    handler = functools.partial(Handler, directory=tmp_path / "files")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_bundle_of_an_address_has_it_as_origin_and_so_do_its_copies(server, tmp_path):
    content = flax.serialization.msgpack_serialize(bundle_tree() | {"origin": {"address": "hf://older/one"}})
    (tmp_path / "files" / "b.msgpack").write_bytes(content)
    address = f"http://{server}/b.msgpack?key=secret"
    origin = {"address": f"http://{server}/b.msgpack", "sha256": hashlib.sha256(content).hexdigest()}
    assert load_bundle(address).origin == origin
    copy, again = (str(tmp_path / name) for name in ("copy.msgpack", "again.msgpack"))
    extend_bundle(address, copy, calibration=CALIBRATION)
    extend_bundle(copy, again)
    assert load_bundle(copy).origin == load_bundle(again).origin == origin
    (tmp_path / "files" / "b.msgpack").unlink()  # the cache has it
    assert load_bundle(address).classes == ("yui", "あかり")


def test_onnx_file_of_an_address_is_downloaded_once(server, tmp_path):
    bundle = build_bundle("a bundle", bundle_tree())
    (file,) = write_onnx(bundle, str(tmp_path / "files" / "model.onnx"), normalize_inside=True)
    address = f"http://{server}/model.onnx?key=secret"
    for _ in range(2):
        assert animesion_jax.load(address).bundle.names == bundle.names
        file.unlink(missing_ok=True)  # the cache has it
    with pytest.raises(InputError, match=r"model\.onnx\?key=secret is an ONNX file, which only predict"):
        load_bundle(address)


def test_local_bundle_has_no_origin(tmp_path):
    (tmp_path / "b.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    assert load_bundle(str(tmp_path / "b.msgpack")).origin == {}


def test_damaged_bundle_of_an_address_is_named_with_its_file(server, tmp_path):
    (tmp_path / "files" / "b.msgpack").write_bytes(b"no bundle")
    address = f"http://{server}/b.msgpack"
    with pytest.raises(InputError) as caught:
        load_bundle(address)
    assert f"{address}, downloaded to {hub.cache_path(address)}, is damaged or not a bundle" in str(caught.value)
