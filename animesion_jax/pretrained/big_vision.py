"""big_vision's ViTs: the names of its `.npz` archives."""

import re
from collections.abc import Mapping

import numpy as np

from animesion_jax.errors import InputError, shorten
from animesion_jax.pretrained import layouts
from animesion_jax.pretrained.merge import MAX_SHAPE, Weights
from animesion_jax.pretrained.timm_vit import add_class_position

# One array for all layers, which are its leading axis: the model was a loop over its layers.
STACKED = re.compile(r"Transformer/encoderblock/(.+)")
# More than any published model has. A damaged file may declare a billion empty layers.
MAX_LAYERS = 128
# Parts of models of images and texts.
OTHER_PARTS = {"a MAP head": re.compile(r".*MAPHead_0/.+"), "a text tower": re.compile(r"(params/)?(txt/.+|[tb])")}


def translate(weights: Weights, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    """Adds the arrays of an image tower under our names, and a position of zeros for its class token.

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
            name = "Transformer/posembed_input/pos_embedding"
        if found := STACKED.fullmatch(name):
            for layer, each in enumerate(_layers(weights.source, key, array)):
                weights.add(f"params/Transformer/encoderblock_{layer}/{found[1]}", key, each)
        else:
            weights.add(f"params/{name}", key, array)
    add_class_position(weights)


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
