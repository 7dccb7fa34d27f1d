"""Hostile files of foreign weights: no code runs, and no more memory is allocated than the file holds."""

import json
import pickle
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import google, load_pretrained, torch_files
from tests.conftest import ROOT
from tests.pretrained.tiny import Bomb, refused, tiny_resnet


def _member(shape, description="<f4", content=b"", version=1):
    header = f"{{'descr': {description!r}, 'fortran_order': False, 'shape': {shape!r}}}".encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2 if version == 1 else 4, "little") + header + content
    )


def _archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """Messages by path, of archives that declare more than they hold or hold a pickle."""
    folder = tmp_path_factory.mktemp("bombs")
    zeros = _member((2**26,), content=bytes(2**28))
    fired = folder / "fired"
    pickled = pickle.dumps(Bomb(fired))
    one = _member((), content=bytes(4))
    made = {
        "shape": ("declares (1000000000,) float32", [("cls.npy", _member((10**9,), content=bytes(8)))]),
        "negative": ("declares (-4,)", [("cls.npy", _member((-4,), content=bytes(16)))]),
        "version": ("version (3, 0)", [("cls.npy", _member((1,), content=bytes(4), version=3))]),
        "object": ("is pickled", [("cls.npy", _member((1,), "|O", pickled))]),
        "second": ("'x.npy' declares", [("cls.npy", one), ("x.npy", _member((9,)))]),
        "deflated": ("that unpack to 268435", [("cls.npy", zeros)], zipfile.ZIP_DEFLATED),
        "lzma": ("compressed by method 14", [("cls.npy", one)], zipfile.ZIP_LZMA),
    }
    words = {_archive(folder / f"{name}.npz", *rest): words for name, (words, *rest) in made.items()}
    for name, content in (("a single array", _member((10**9,), content=bytes(8))), ("a pickle", pickled)):
        (folder / f"{name}.npz").write_bytes(content)
        words[folder / f"{name}.npz"] = name
    yield words
    assert not fired.exists()
    pickle.loads(pickled)
    assert fired.exists()  # the bomb works


def test_archive_that_declares_more_than_it_holds_is_refused(bombs):
    for path, words in bombs.items():
        refused(path, *tiny_resnet(), "damaged or not a .npz of plain arrays", words)


def test_hostile_archives_take_no_memory(bombs):
    """A process reads them with 100 MB more memory than it has after the imports."""
    code = (
        "import pathlib, resource, sys\n"
        "from animesion_jax.pretrained import google\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 100_000_000, resource.RLIM_INFINITY))\n"
        "for path in sys.argv[1:]:\n"
        "    try: google.read(pathlib.Path(path))\n"
        "    except ValueError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, *map(str, bombs)], capture_output=True, text=True, cwd=ROOT)
    lines = result.stdout.splitlines()
    assert len(lines) == len(bombs) and "MemoryError" not in result.stdout, result.stdout + result.stderr


def test_small_archive_may_be_well_compressed(tmp_path):
    np.savez_compressed(tmp_path / "w.npz", **{"embedding/bias": np.zeros(10**6, np.float32)})
    assert (tmp_path / "w.npz").stat().st_size < 10**5
    assert google.read(tmp_path / "w.npz").arrays["params/embedding/bias"].shape == (10**6,)


def test_archive_of_any_float_type_byte_order_and_layout_is_read(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for dtype in ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2"):
        np.savez(tmp_path / "w.npz", c=values.astype(dtype), f=np.asfortranarray(values.astype(dtype)))
        arrays = google.read(tmp_path / "w.npz").arrays
        for name in ("params/c", "params/f"):
            np.testing.assert_array_equal(arrays[name], values)
            assert arrays[name].dtype == np.float32 and arrays[name].dtype.isnative


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_value_that_is_not_finite_in_float32_is_an_offender(tmp_path, value):
    np.savez(tmp_path / "w.npz", cls=np.array([0.0, value]))
    weights = google.read(tmp_path / "w.npz")
    assert not weights.arrays and weights.offenders == ["'cls' (2,) has values that are not finite in float32"]


def test_archive_member_named_like_a_path_writes_no_file(tmp_path):
    """An error message that has the name is one line."""
    name = "../../x\n\x1b[2J"
    path = _archive(tmp_path / "w.npz", [(f"{name}.npy", _member((1,), content=bytes(4)))])
    assert list(google.read(path).arrays) == [f"params/{name}"]
    model = create_model("shallownet", num_classes=2, image_size=16)
    with pytest.raises(InputError, match=r"Not in the model: '\.\./\.\./x\\n\\x1b\[2J' \(1,\)\. "):
        load_pretrained(str(path), model, abstract_variables(model, 16))
    assert [each.name for each in tmp_path.iterdir()] == ["w.npz"]


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"a": {"dtype": "F32", "shape": [2**63, 2], "data_offsets": [0, 8]}},
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"},  # both the same bytes
        [],
    ],
)
def test_safetensors_with_a_false_header_are_refused(tmp_path, header):
    text = json.dumps(header).encode()
    for length in (len(text), 0, 2**64 - 1):
        (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + text + bytes(8))
        refused(tmp_path / "w.safetensors", *tiny_resnet(), "damaged or not a .safetensors")


def _view(shape):
    """Returns a tensor as torch's loader may: one stored value, strided to any shape."""
    array = np.broadcast_to(np.float32(1), shape)
    tensor = SimpleNamespace(numel=lambda: array.size, element_size=lambda: 4, is_floating_point=lambda: True)
    tensor.detach, tensor.float, tensor.numpy = lambda: tensor, lambda: tensor, lambda: array
    return tensor


def test_tensor_larger_than_its_file_is_refused():
    assert torch_files._to_numpy({"fc.bias": _view((30,))}, 120)["fc.bias"].shape == (30,)
    with pytest.raises(ValueError, match="tensors of 4000000000000 bytes; allowed: 120"):
        torch_files._to_numpy({"fc.weight": _view((10**6, 10**6))}, 120)


def test_pth_is_loaded_with_weights_only(tmp_path, monkeypatch):
    """torch is not required; a stub records its arguments."""
    asked = {}

    def load(file, **options):
        asked.update(options)
        raise pickle.UnpicklingError("to allow this, set weights_only=False")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load))
    (tmp_path / "w.pth").write_bytes(b"x")
    refused(tmp_path / "w.pth", *tiny_resnet(), "other objects could run code")
    assert asked == {"map_location": "cpu", "weights_only": True}
