"""Reading bundles: valid, inconsistent, damaged and hostile ones."""

import bisect
import json
import pwd
import subprocess
import sys

import flax.serialization
import jax
import msgpack
import numpy as np
import pytest

from animesion_jax.bundle import Crops, extend_bundle, load_bundle, metadata
from animesion_jax.bundle.msgpack_reader import CHUNKED, MAX_CONTAINERS
from animesion_jax.errors import InputError
from animesion_jax.preprocessing import Margin
from tests.conftest import ROOT
from tests.hostile_seeds import CALIBRATION, CROPS, bundle_tree


def _write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else flax.serialization.msgpack_serialize(content))
    return str(path)


def _refused(path, *words):
    with pytest.raises(InputError) as caught:
        load_bundle(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 1000
    assert all(word in message for word in (path, *words)), message


def _head(tree):
    return tree["variables"]["params"]["head"]


def test_load_bundle_returns_the_bundle_that_flax_wrote(tmp_path):
    tree = bundle_tree()
    draw = np.random.default_rng(1)
    tree["variables"] = jax.tree.map(lambda leaf: draw.standard_normal(leaf.shape, np.float32), tree["variables"])
    bundle = load_bundle(_write(tmp_path / "b.msgpack", tree))
    jax.tree.map(np.testing.assert_array_equal, bundle.variables, tree["variables"])
    assert bundle.classes == ("yui", "あかり") and bundle.training == tree["training"]
    assert (bundle.image_size, bundle.fit, bundle.mean, bundle.std) == (16, "squash", (0.5,) * 3, (0.5,) * 3)


def test_load_bundle_reads_a_file_whose_owner_has_no_name(tmp_path, monkeypatch):
    """As in a container with a shared folder; etils' `stat` asks for the name."""
    path = _write(tmp_path / "b.msgpack", bundle_tree())

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert load_bundle(path).classes


def test_load_bundle_quotes_the_suggested_command(tmp_path):
    (tmp_path / "my run").mkdir()
    with pytest.raises(InputError, match=f"--workdir='{tmp_path}/my run' --output"):
        load_bundle(str(tmp_path / "my run"))


def test_load_bundle_joins_chunked_arrays(tmp_path, monkeypatch):
    tree = bundle_tree()
    _head(tree)["kernel"] = np.arange(_head(tree)["kernel"].size, dtype="f").reshape(_head(tree)["kernel"].shape)
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 100)  # bytes, instead of a gibibyte
    path = _write(tmp_path / "b.msgpack", tree)
    assert CHUNKED.encode() in (tmp_path / "b.msgpack").read_bytes()
    jax.tree.map(np.testing.assert_array_equal, load_bundle(path).variables, tree["variables"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["classes"].pop(), "1 class names for 2"),
        (lambda t: t["model"].update(num_classes=2.0), "2 class names for 2.0"),
        (lambda t: t.update(classes=[]) or t["model"].update(num_classes=0), "at least 1"),
        (lambda t: t["model"].update(image_size=10**9), "image_size is 1000000000; allowed: 1 to 4096"),
        (lambda t: t["model"].update(image_size=True), "image_size is True"),
        (lambda t: t["model"].update(image_size=0), "image_size is 0"),
        (lambda t: t["model"].update(name=["shallownet"]), "unhashable"),
        (lambda t: t["model"].update(name="x" * 10**5), "unknown model 'xxx"),
        (lambda t: t["model"].update(dtype="float8"), "float8"),
        (lambda t: t["model"].update(num_layers=10**6), "option 'num_layers'; allowed: name, num_classes"),
        (lambda t: t["model"].pop("name"), "name"),
        (lambda t: t.update(model="shallownet"), "'model' is str, not a dict"),
        (lambda t: t.pop("training"), "'training' is NoneType, not a dict"),
        (lambda t: t["training"].update(step="3"), "the training's step is str, not int"),
        (lambda t: t["training"].update(config=[]), "the training's config is list, not dict"),
        (lambda t: t["training"].update(images={"train": -1}), "numbers of images are {'train': -1}"),
        (lambda t: t["training"].update(images={"train": True}), "numbers of images are {'train': True}"),
        (lambda t: t.update(origin=[]), "the origin is []"),
        (lambda t: t.update(origin={"sha256": 3}), "the origin is {'sha256': 3}"),
        (lambda t: t.update(origin={"path": "/home/me"}), "the origin has 'path'; allowed: address, file"),
        (lambda t: t["preprocessing"].update(size=128), "128 px for a model of 16 px"),
        (lambda t: t["preprocessing"].update(fit="crop"), "fit is 'crop'; allowed: squash, pad"),
        (lambda t: t["preprocessing"].update(fit=["pad"]), "fit is ['pad']"),
        (lambda t: t["preprocessing"].pop("fit"), "fit is None"),
        (lambda t: t["preprocessing"].update(mean=[float("nan"), 0.5, 0.5]), "finite"),
        (lambda t: t["preprocessing"].update(std=[0.0, 0.5, 0.5]), "std above 0"),
        (lambda t: t["preprocessing"].update(std=["a", 0.5, 0.5]), "could not convert"),
        (lambda t: t.update(classes=["yui", "yui"]), "2 classes are named 'yui'"),
        (lambda t: t.update(classes=["yui", 3]), "not a list of strings"),
        (lambda t: t.update(classes="ab"), "not a list of strings"),
        (lambda t: t.update(format=np.zeros(3, np.float32)), "not a bundle"),
        (lambda t: t.update(version=True), "version True"),
        (lambda t: t.update(version="1" * 10**5), "version '111"),
        (lambda t: t["variables"].update(extra={}), "missing or extra, the first is 'extra'"),
        (lambda t: _head(t).pop("bias"), "missing or extra, the first is 'params/head/bias'"),
        (lambda t: _head(t).update(bias=[0.0, 0.0]), "variable 'params/head/bias' is list"),
        (lambda t: _head(t).update(bias=np.zeros(3, "f")), "'params/head/bias' is float32(3,), expected float32(2,)"),
        (lambda t: _head(t).update(bias=np.zeros(2)), "an array of b'float64'; allowed: float32"),
        (lambda t: _head(t).update(bias=np.array([0, np.nan], "f")), "'params/head/bias' is not finite"),
        (lambda t: t.update(extra=1j), "extension type 2"),
        (lambda t: t.update(extra={CHUNKED: 1, "shape": {"0": 10**12}, "chunks": {"0": np.zeros(1, "f")}}), "reshape"),
        (lambda t: t.update(extra={CHUNKED: True}), "shape"),
        (lambda t: t.update(extra=[[]] * (MAX_CONTAINERS + 1)), f"more than {MAX_CONTAINERS} lists"),
    ],
)  # fmt: skip
def test_load_bundle_refuses_inconsistent_content(tmp_path, change, words):
    tree = bundle_tree()
    change(tree)
    _refused(_write(tmp_path / "b.msgpack", tree), words)


@pytest.mark.parametrize("length", [0, 1, 100, 10_000])
def test_load_bundle_refuses_a_truncated_file(tmp_path, length):
    content = flax.serialization.msgpack_serialize(bundle_tree())
    _refused(_write(tmp_path / "b.msgpack", content[:length]), "damaged or not a bundle", "--format=msgpack")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"threshold": "0.5"}, "threshold is '0.5'"),
        ({"scale": None}, "scale is None"),
        ({"offset": float("inf")}, "offset is inf"),
        ({"source": []}, "source"),
        ({"more": 1}, "more"),
    ],
)
def test_load_bundle_refuses_an_inconsistent_calibration(tmp_path, damage, words):
    _refused(_write(tmp_path / "b.msgpack", bundle_tree() | {"calibration": CALIBRATION | damage}), words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({}, None),
        ({"names": ["yui"]}, "'yui' is one of the classes"),
        ({"names": ["mio", "mio"]}, "2 classes are named 'mio'"),
        ({"embeddings": np.ones((1, 3), np.float32)}, "expected"),
        ({"embeddings": [1.0]}, "expected"),
        ({"embeddings": np.ones((1, 512), np.float32)}, "unit norm"),
        ({"counts": [0]}, "counts of enrolled images"),
        ({"counts": None}, "counts of enrolled images"),
    ],
)
def test_load_bundle_refuses_inconsistent_enrolled_characters(tmp_path, damage, words):
    enrolled = {"names": ["mio"], "embeddings": np.eye(1, 512, dtype=np.float32), "counts": [2]} | damage
    path = _write(tmp_path / "b.msgpack", bundle_tree() | {"calibration": CALIBRATION, "enrolled": enrolled})
    if words:
        _refused(path, words)
    else:
        assert load_bundle(path).names == ("yui", "あかり", "mio")
        _refused(_write(tmp_path / "b.msgpack", bundle_tree() | {"enrolled": enrolled}), "no calibration")


def test_bundle_keeps_its_crops_when_it_gets_other_parts(tmp_path):
    path = str(tmp_path / "b.msgpack")
    assert load_bundle(_write(tmp_path / "b.msgpack", bundle_tree())).crops is None
    extend_bundle(path, path, crops=CROPS)
    extend_bundle(path, path, calibration=CALIBRATION)
    bundle = load_bundle(path)
    assert bundle.crops == Crops("heads.xml", "0" * 64, Margin(1.5, 0.25, "pad"), CROPS["source"])
    assert bundle.calibration.threshold == 0.6
    assert json.loads(metadata(bundle, bundle.names)["crops"]) == {
        "detector": "heads.xml", "sha256": "0" * 64, "scale": 1.5, "shift": 0.25, "fit": "pad"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"scale": 0.0}, "the crops' scale is 0.0; allowed: 0.01 to 100"),
        ({"scale": -1.5}, "scale is -1.5"),
        ({"scale": 1e9}, "scale is 1000000000.0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": 1}, "scale is 1"),
        ({"scale": True}, "scale is True"),
        ({"shift": float("-inf")}, "shift is -inf; allowed: -100 to 100"),
        ({"shift": "0"}, "shift is '0'"),
        ({"fit": "crop"}, "fit is 'crop'; allowed: squash, pad"),
        ({"fit": ["pad"]}, "fit is ['pad']"),
        ({"detector": ""}, "detector is ''; allowed: an address or a file name"),
        ({"detector": 3}, "detector is 3"),
        ({"detector": "/home/me/heads.xml"}, "detector is '/home/me/heads.xml'"),
        ({"detector": "file:///heads.xml"}, "detector is 'file:///heads.xml'"),
        ({"sha256": "0" * 63}, "sha256 is '000"),
        ({"sha256": None}, "sha256 is None; allowed: 64 hexadecimal digits"),
        ({"source": []}, "'source' is list, not a dict"),
    ],
)
def test_load_bundle_refuses_inconsistent_crops(tmp_path, damage, words):
    _refused(_write(tmp_path / "b.msgpack", bundle_tree() | {"crops": CROPS | damage}), words)


@pytest.mark.parametrize("part", CROPS)
def test_load_bundle_refuses_incomplete_crops(tmp_path, part):
    crops = {name: value for name, value in CROPS.items() if name != part}
    _refused(_write(tmp_path / "b.msgpack", bundle_tree() | {"crops": crops}), part)


def _array_ext(*parts):
    return msgpack.packb(msgpack.ExtType(1, msgpack.packb(parts)))


# Bytes that declare more than the file holds.
BOMBS = {
    "list": b"\xdd\x7f\xff\xff\xff",
    "map": b"\xdf\x7f\xff\xff\xff",
    "extension": b"\xc9\x7f\xff\xff\xff\x01",
    # Each of 900 nested lists declares as many elements as there are bytes. The reader in C of msgpack 1.2.4 allocates
    # 100 kB for each.
    "lists in lists": b"\xdd\x00\x0f\x00\x00" * 900 + bytes(10**6),
    "lists in an array": msgpack.packb(msgpack.ExtType(1, b"\xdd\x00\x0f\x00\x00" * 900 + bytes(10**6))),
    "deep": b"\x91" * 10**6,
    "deep maps": b"\x81\xa1a" * 10**5,
    "empty lists": b"\xdd\x00\x0f\x42\x40" + b"\x90" * 10**6,
    "shape": _array_ext([10**15], b"float32", b""),
    "dimensions": _array_ext([1] * 100, b"float32", bytes(4)),
    "object": _array_ext([1], b"object", bytes(8)),
    "integer key": b"\x81\x01\x01",
    "trailing": flax.serialization.msgpack_serialize(bundle_tree()) + b"\0",
}


@pytest.mark.parametrize("name", BOMBS)
def test_load_bundle_refuses_lengths_beyond_the_file(tmp_path, name):
    _refused(_write(tmp_path / "b.msgpack", BOMBS[name]), "damaged or not a bundle", "export it again")


def test_load_bundle_refuses_every_depth_of_nesting(tmp_path):
    """The deepest tree that msgpack reads leaves no room on Python's stack for checking it."""
    tree = bundle_tree() | {"variables": "HERE"}
    before, after = msgpack.packb(tree).split(msgpack.packb("HERE"))

    def outcome(depth):
        path = _write(tmp_path / "b.msgpack", before + b"\x81\xa1a" * depth + b"\xc0" + after)
        with pytest.raises(InputError) as caught:
            load_bundle(path)
        return str(caught.value)

    deepest = bisect.bisect_left(range(1000), True, key=lambda depth: "damaged" in outcome(depth)) - 1
    assert 300 < deepest < 999
    for depth in range(deepest - 5, deepest + 2):
        assert "is inconsistent" in outcome(depth) or depth > deepest


def test_load_bundle_allocates_no_declared_lengths(tmp_path):
    """A process reads them with 50 MB more memory than it has after reading a valid bundle."""
    good = _write(tmp_path / "good.msgpack", bundle_tree())
    bombs = [_write(tmp_path / f"{name}.msgpack", bomb) for name, bomb in BOMBS.items()]
    code = (
        "import resource, sys\n"
        "from animesion_jax.bundle import load_bundle\n"
        "load_bundle(sys.argv[1])\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 50_000_000, resource.RLIM_INFINITY))\n"
        "for path in sys.argv[2:]:\n"
        "    try: load_bundle(path)\n"
        "    except ValueError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, good, *bombs], capture_output=True, text=True, cwd=ROOT)
    lines = result.stdout.splitlines()
    assert len(lines) == len(bombs) and "MemoryError" not in result.stdout, result.stdout + result.stderr
