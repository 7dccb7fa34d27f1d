"""Google's archives: names, dtypes, layouts and damage."""

import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.pretrained import load_pretrained
from tests.pretrained.tiny import SIZE, flatten, refused, tiny_arrays, tiny_vit
from tests.published import google_arrays, save_google


@pytest.mark.parametrize("prefix", ["", "opt/target/", "params/"])
@pytest.mark.parametrize("linen", [False, True], ids=["old names", "linen names"])
def test_google_arrays_load_under_old_and_linen_names_and_every_prefix(tmp_path, prefix, linen, capsys):
    arrays = tiny_arrays(num_classes=5, names="linen" if linen else "old")
    extra = {"opt/state/step": np.int32(3), "opt/state/param_states/cls/grad_ema": arrays["cls"]} if prefix else {}
    file = save_google(tmp_path / "w.npz", {f"{prefix}{name}": array for name, array in arrays.items()} | extra)
    loaded = flatten(load_pretrained(file, *tiny_vit(), keep_head=True))
    expected = tiny_arrays(num_classes=5, names="linen")
    assert loaded.keys() == expected.keys()
    for name, array in loaded.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected[name], name)
    lines = capsys.readouterr().err.splitlines()
    counts = [int(line.split()[1]) for line in lines[2:]]
    assert sum(counts) == len(arrays) + len(extra)
    assert any("optimizer state" in line for line in lines) == bool(extra)


def test_google_bfloat16_is_decoded_from_numpys_void(tmp_path):
    arrays = tiny_arrays()
    stored = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    loaded = flatten(load_pretrained(save_google(tmp_path / "w.npz", stored), *tiny_vit()))
    with np.load(tmp_path / "w.npz") as archive:
        assert archive["cls"].dtype.kind == "V"
    # bfloat16 is the upper half of float32, rounded to nearest even.
    bits = arrays["embedding/kernel"].view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(loaded["embedding/kernel"], rounded)


def test_google_hybrid_loads_every_unit_and_squeezes_group_norms(tmp_path):
    arrays = google_arrays("r50_vit_b16", 7, 32, stem_sizes=(1, 2, 1), groupnorm_4d=True, **SIZE)
    model = tiny_vit("r50_vit_b16", image_size=32, stem_sizes=(1, 2, 1))
    loaded = flatten(load_pretrained(save_google(tmp_path / "w.npz", arrays), *model))
    assert len(loaded) == len(arrays)
    for name, array in arrays.items():
        if "/gn" in name or name.startswith("gn"):
            np.testing.assert_array_equal(loaded[name], array[0, 0, 0], name)
        elif "conv" in name:
            np.testing.assert_array_equal(loaded[name], array, name)


def _damage(kind, whole, path):
    if kind == "readme":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("README.txt", "hello")
            archive.writestr("gn_root/scale", "hello")
        return ["'README.txt' is bytes, not an array", "'gn_root/scale' is bytes, not an array"]
    if kind == "flipped":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif kind == "html":
        path.write_text("<html>sign in</html>")
    else:
        path.write_bytes(whole[: int(len(whole) * kind)])
    return ["damaged or not a .npz"]


@pytest.mark.parametrize("kind", [0, 0.5, 0.9999, "flipped", "html", "readme"])
def test_damaged_google_archive_is_refused(tmp_path, kind):
    save_google(tmp_path / "w.npz", tiny_arrays())
    words = _damage(kind, (tmp_path / "w.npz").read_bytes(), tmp_path / "w.npz")
    refused(tmp_path / "w.npz", *tiny_vit(), *words)


def test_google_archive_with_a_flipped_byte_is_refused_or_loads_right(tmp_path):
    """The byte is in a name, a header, a length or a value."""
    expected = tiny_arrays(num_classes=5)
    whole = bytearray(Path(save_google(tmp_path / "w.npz", expected)).read_bytes())
    model, draw, refused = tiny_vit(), np.random.default_rng(3), 0
    for place in draw.integers(0, len(whole), 80):
        damaged = whole.copy()
        damaged[place] ^= int(draw.integers(1, 256))
        (tmp_path / "w.npz").write_bytes(damaged)
        try:
            loaded = flatten(load_pretrained(str(tmp_path / "w.npz"), *model, keep_head=True))
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(loaded["embedding/kernel"], expected["embedding/kernel"])
    assert refused > 40
