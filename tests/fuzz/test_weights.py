"""Weights with any names and shapes load, or give one short line that names the prefix or layout first."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from animesion_jax.errors import MAX_MESSAGE, InputError
from animesion_jax.pretrained import layouts, load_pretrained
from animesion_jax.pretrained.merge import Weights, merge
from tests.fuzz import fuzz
from tests.pretrained.test_layouts import swin, timm_vit
from tests.pretrained.tiny import tiny_arrays, tiny_resnet, tiny_vit
from tests.published import big_vision_arrays, torchvision_arrays
from tests.torch_vits import transformers_arrays

MODELS = {"ResNet": functools.cache(tiny_resnet), "VisionTransformer": functools.cache(tiny_vit)}
# What one file of each layout has.
FILES = {
    "torchvision's ResNet": functools.cache(lambda: torchvision_arrays(18, 7, stage_sizes=(1, 1))),
    "Google's ViT": functools.cache(tiny_arrays),
    "big_vision's ViT": functools.cache(lambda: big_vision_arrays(tiny_arrays(names="linen"), prefix="", stacked=True)),
    "timm's ViT": functools.cache(lambda: timm_vit() | {"blocks.0.ls1.gamma": np.ones(8, np.float32)}),
    "transformers' ViT": functools.cache(lambda: transformers_arrays(tiny_arrays(), 4)),
    "timm's Swin Transformer": functools.cache(swin),
}
ARCHIVES = ("Google's ViT", "big_vision's ViT")
PARTS = st.sampled_from(["module", "model", "_orig_mod", "layer1", "0", "params", "opt", "é", "\n", "x" * 300, "'", ""])
NAMES = st.lists(PARTS | st.text(max_size=6), min_size=1, max_size=6).flatmap(
    lambda parts: st.sampled_from([".", "/"]).map(lambda separator: separator.join(parts))
)
SHAPES = st.tuples(st.sampled_from([1, 1000]), st.lists(st.sampled_from([0, 1]), max_size=31)).map(
    lambda sizes: (sizes[0], *sizes[1])
)
ARRAYS = st.sampled_from([np.float32(1), np.int64(1), np.float32(np.nan), b"text"])
PREFIXES = st.lists(st.sampled_from(["module", "model", "_orig_mod", "backbone", "a b", "é"]), max_size=3).map(
    lambda parts: "".join(f"{part}." for part in parts)
)


def _check(error: InputError, source: str) -> str:
    """Returns the message without the source."""
    message = str(error)
    assert message.startswith(source) and "\n" not in message and len(message) <= MAX_MESSAGE + len(source), message
    return message.removeprefix(source)


@fuzz
@given(st.lists(st.tuples(NAMES, SHAPES, ARRAYS), max_size=8), st.integers(1, 700), st.sampled_from(list(MODELS)))
def test_arrays_of_any_names_give_a_short_error(kinds, repeats, name):
    """Up to 5,600 arrays; every value of one is the same."""
    weights = Weights("w.npz")
    for number in range(repeats):
        for each, shape, value in kinds:
            array = value if isinstance(value, bytes) else np.broadcast_to(value, shape)
            weights.add(f"params/{each}{number or ''}", f"{each}{number or ''}", array)
    _, variables = MODELS[name]()
    with pytest.raises(InputError) as error:
        merge(weights, name, variables, keep_head=False)
    _check(error.value, "w.npz")


@fuzz
@given(st.sampled_from(list(FILES)), PREFIXES, st.data(), st.sampled_from(list(MODELS)))
def test_prefix_and_layout_come_first(layout, prefix, data, name):
    """Of a file with arrays missing, renamed or of another shape."""
    arrays = {prefix + key: array for key, array in FILES[layout]().items()}
    kept = {prefix + key for key in layouts.LAYOUTS[layout]}
    for key in data.draw(st.lists(st.sampled_from(sorted(arrays.keys() - kept)), max_size=5, unique=True)):
        array = arrays.pop(key)
        if new := data.draw(st.sampled_from(["", key, f"{key}2", "other.weight"])):
            arrays[new] = data.draw(st.sampled_from([array, array[None], array.astype(np.int32)]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("w.npz" if layout in ARCHIVES else "w.safetensors")
        np.savez(path, **arrays) if path.suffix == ".npz" else safetensors.numpy.save_file(arrays, path)
        try:
            load_pretrained(str(path), *MODELS[name]())
        except InputError as error:
            message = _check(error, str(path))
            if layout == "timm's Swin Transformer" or not _is_read(prefix, layout):
                assert f" names of {layout}" in message[:60] and len(message) < 450
                assert not prefix or f"after the prefix '{prefix}'" in message[:120]
        else:
            assert layout != "timm's Swin Transformer" and _is_read(prefix, layout)


def _is_read(prefix: str, layout: str) -> bool:
    """Returns whether PyTorch's wrappers, which no archive has, make the prefix."""
    return not prefix or (layout not in ARCHIVES and not {*prefix.split(".")} - {"module", "model", "_orig_mod", ""})
