"""ViTs and hybrids in timm, which joins query, key and value and may scale the output of a layer."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.models import FAMILIES
from animesion_jax.pretrained import timm
from animesion_jax.pretrained.merge import FLOATS, Arrays, Fate, Weights

ATTENTION = "MultiHeadDotProductAttention_0"
QKV = re.compile(rf"(.*/{ATTENTION}/)qkv(/kernel|/bias)")
QUERY_KEY_VALUE = ("query", "key", "value")
CLASS_TOKEN, POSITIONS, REGISTERS = "cls", "Transformer/posembed_input/pos_embedding", "Transformer/registers"

# LayerScale (Touvron et al., 2021, arXiv:2103.17239) multiplies the outputs of these layers.
SCALE = re.compile(r"(blocks\.\d+\.)(ls[12])\.gamma")
SCALED = {"ls1": "attn.proj", "ls2": "mlp.fc2"}
# DINOv2's own files call timm's reg_token by this name, and have the token that hides patches in training.
REGISTER_TOKENS, MASK_TOKEN = "register_tokens", "mask_token"


def translate(weights: Weights, arrays: Mapping[str, np.ndarray]) -> None:
    """Adds the arrays of timm's ViT or hybrid, or of DINOv2's own files, under our names and in our layout.

    LayerScale is folded into the layer before it, which is exact: with W of (outputs, inputs), W' = diag(gamma) W and
    b' = gamma b. Where the class token has no position, it gets one of zeros.
    """
    arrays = _fold_scales(weights, dict(arrays))
    if (mask := arrays.pop(MASK_TOKEN, None)) is not None:
        weights.fates.append(Fate(MASK_TOKEN, "left out: only the training without labels needs it", mask.size))
    if REGISTER_TOKENS in arrays and "reg_token" not in arrays:
        arrays["reg_token"] = arrays.pop(REGISTER_TOKENS)
    timm.from_timm(weights, arrays, FAMILIES["vit"])
    _split_heads(weights)
    add_class_position(weights)


def _fold_scales(weights: Weights, arrays: Arrays) -> Arrays:
    """Returns the arrays with LayerScale folded into the layers before. `merge` refuses a scale that does not fit."""
    for key in [*filter(SCALE.fullmatch, arrays)]:
        block, scale = SCALE.fullmatch(key).groups()
        layer, gamma = f"{block}{SCALED[scale]}", arrays[key]
        scaled = [f"{layer}.{leaf}" for leaf in ("weight", "bias") if f"{layer}.{leaf}" in arrays]
        if not scaled or not all(_is_scalable(arrays[name], gamma) for name in scaled):
            continue
        for name in scaled:
            columns = gamma.reshape(-1, *[1] * (arrays[name].ndim - 1)).astype(np.float64)
            # Do not warn of values that are not finite: `Weights.add` refuses them.
            with np.errstate(all="ignore"):
                arrays[name] = arrays[name] * columns
        del arrays[key]
        weights.fates.append(Fate(f"blocks.*.{scale}.gamma", f"folded into {SCALED[scale]}", gamma.size))
    return arrays


def _is_scalable(array: np.ndarray, gamma: np.ndarray) -> bool:
    floats = array.dtype.name in FLOATS and gamma.dtype.name in FLOATS
    return floats and gamma.ndim == 1 and array.shape[:1] == gamma.shape and bool(np.isfinite(gamma).all())


def _split_heads(weights: Weights) -> None:
    """Replaces each module "qkv" of the weights by query, key and value."""
    for name in list(weights.keys):
        array = weights.arrays.get(name)
        if not (found := QKV.fullmatch(name)) or (array is not None and array.shape[-1] % 3):
            continue
        parts = [found[1] + part + found[2] for part in QUERY_KEY_VALUE]
        weights.keys |= dict.fromkeys(parts, weights.keys.pop(name))
        if array is not None:
            weights.arrays |= dict(zip(parts, np.split(weights.arrays.pop(name), 3, axis=-1), strict=True))


def add_class_position(weights: Weights) -> None:
    """Adds a position of zeros for a class token without one: then the number of positions is a square."""
    table = weights.arrays.get(f"params/{POSITIONS}")
    if f"params/{CLASS_TOKEN}" not in weights.arrays or table is None or table.ndim != 3:
        return
    if math.isqrt(table.shape[1]) ** 2 == table.shape[1]:
        weights.arrays[f"params/{POSITIONS}"] = np.pad(table, ((0, 0), (1, 0), (0, 0)))


def to_timm(variables: Mapping[str, Any]) -> Arrays:
    """Returns a ViT's or hybrid's variables as timm's state dict. InputError for pre_logits, which timm lacks.

    With registers, timm's class token has no position: add ours to the token.
    """
    arrays = _join_heads(traverse_util.flatten_dict(variables["params"], sep="/"))
    if REGISTERS in arrays and CLASS_TOKEN in arrays:
        arrays[CLASS_TOKEN] = arrays[CLASS_TOKEN] + arrays[POSITIONS][:, :1]
        arrays[POSITIONS] = arrays[POSITIONS][:, 1:]
    return timm.to_timm({"params": traverse_util.unflatten_dict(arrays, sep="/")}, FAMILIES["vit"])


def _join_heads(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Returns the arrays with the heads of an attention joined, and query, key and value as one module "qkv"."""
    joined = {}
    for name, array in arrays.items():
        path, _, leaf = name.rpartition("/")
        attention, _, part = path.rpartition("/")
        if attention.endswith(ATTENTION) and part == "query":
            trio = [arrays[f"{attention}/{each}/{leaf}"] for each in QUERY_KEY_VALUE]
            # Kernels are (hidden, heads, each), biases (heads, each).
            flat = [each.reshape(*each.shape[:-2], -1) for each in trio]
            joined[f"{attention}/qkv/{leaf}"] = np.concatenate(flat, axis=-1)
        elif attention.endswith(ATTENTION) and part == "out":
            joined[name] = array.reshape(-1, array.shape[-1]) if leaf == "kernel" else array
        elif part not in ("key", "value"):
            joined[name] = array
    return joined
