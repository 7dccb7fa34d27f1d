"""big_vision's ViTs: the names of its `.npz` archives."""

import re
from collections.abc import Mapping

import numpy as np

from animesion_jax.errors import InputError, shorten
from animesion_jax.pretrained import layouts
from animesion_jax.pretrained.merge import MAX_SHAPE, Weights
from animesion_jax.pretrained.timm_vit import CLASS_TOKEN, POSITIONS, add_class_position

# One array for all layers, which are its leading axis: the model was a loop over its layers.
STACKED = re.compile(r"Transformer/encoderblock/(.+)")
# More than any published model has. A damaged file may declare a billion empty layers.
MAX_LAYERS = 128
TABLE = f"params/{POSITIONS}"
# Of the published models without a table (Beyer et al., 2022, arXiv:2205.01580).
TRAINED_AT, PATCH_SIZES = 224, (14, 16, 32)
# Parts of models of images and texts.
OTHER_PARTS = {"a MAP head": re.compile(r".*MAPHead_0/.+"), "a text tower": re.compile(r"(params/)?(txt/.+|[tb])")}


def translate(weights: Weights, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Adds the arrays of an image tower under our names, and a position of zeros for its class token.

    Without a class token and a table of positions, these are sines and cosines.

    Args:
      weights: receives them.
      arrays: by the file's own names.
      prefix: of the names of the image tower, such as "params/img/".

    Raises:
      InputError: the file has a MAP head, a text tower, or stacked layers that do not fit together.
    """
    check_parts(weights.source, arrays)
    for key, array in arrays.items():
        name = key.removeprefix(prefix)
        if name == "pos_embedding":
            name = POSITIONS
        if found := STACKED.fullmatch(name):
            for layer, each in enumerate(_layers(weights.source, key, array)):
                weights.add(f"params/Transformer/encoderblock_{layer}/{found[1]}", key, each)
        else:
            weights.add(f"params/{name}", key, array)
    add_class_position(weights)
    kernel = weights.arrays.get("params/embedding/kernel")
    if f"params/{CLASS_TOKEN}" not in weights.keys and TABLE not in weights.keys and kernel is not None:
        _add_sines_and_cosines(weights, kernel.shape)


def _add_sines_and_cosines(weights: Weights, kernel: tuple[int, ...]) -> None:
    """Adds the positions of images of `TRAINED_AT` pixels; none for a kernel that no published model has.

    As in MoCo v3 (Chen et al., 2021, arXiv:2104.02057): a quarter of the features each for the sine and the cosine of
    the column, then of the row, times frequencies from 1 to 1 / 10,000.
    """
    if len(kernel) != 4 or kernel[0] not in PATCH_SIZES or kernel[3] % 4 or kernel[3] < 8:
        return
    grid = TRAINED_AT // kernel[0]
    rows, columns = np.divmod(np.arange(grid * grid)[:, None], grid)
    frequencies = 10_000.0 ** -np.linspace(0, 1, kernel[3] // 4)
    parts = [wave(places * frequencies) for places in (columns, rows) for wave in (np.sin, np.cos)]
    weights.add(TABLE, "(sines and cosines)", np.concatenate(parts, 1)[None].astype(np.float32))
    weights.changes[TABLE] = "computed, because the file has no table"


def check_parts(source: str, names: Mapping[str, np.ndarray]) -> None:
    """Raises InputError for parts that our ViTs lack, with the first array of each."""
    firsts = ((part, next(filter(pattern.fullmatch, names), None)) for part, pattern in OTHER_PARTS.items())
    others = [f"{part} ('{shorten(name, layouts.MAX_NAME)}')" for part, name in firsts if name]
    if others:
        raise InputError(
            f"{source} has names of {layouts.BIG_VISION} with {' and '.join(others)}, which are not supported; give "
            "timm's file of an image tower that is pooled by the mean, such as "
            "timm/vit_base_patch16_siglip_gap_224.v2_webli"
        )


def _layers(source: str, key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim < 1 or len(array) > MAX_LAYERS:
        name, shape = shorten(key, layouts.MAX_NAME), shorten(str(array.shape), MAX_SHAPE)
        raise InputError(f"{source}: '{name}' {shape} has no axis of layers; allowed: at most {MAX_LAYERS} layers")
    return array
