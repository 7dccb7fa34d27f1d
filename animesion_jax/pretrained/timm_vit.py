"""ViTs and hybrids in timm, which joins query, key and value."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.models import FAMILIES
from animesion_jax.pretrained import timm
from animesion_jax.pretrained.merge import Arrays

ATTENTION = "MultiHeadDotProductAttention_0"


def to_timm(variables: Mapping[str, Any]) -> Arrays:
    """Returns a ViT's or hybrid's variables as timm's state dict. InputError for pre_logits, which timm lacks."""
    arrays = _with_joined_heads(traverse_util.flatten_dict(variables["params"], sep="/"))
    return timm.to_timm({"params": traverse_util.unflatten_dict(arrays, sep="/")}, FAMILIES["vit"])


def _with_joined_heads(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Returns the arrays with the heads of an attention joined, and query, key and value as one module "qkv"."""
    joined = {}
    for name, array in arrays.items():
        path, _, leaf = name.rpartition("/")
        attention, _, part = path.rpartition("/")
        if attention.endswith(ATTENTION) and part == "query":
            trio = [arrays[f"{attention}/{each}/{leaf}"] for each in ("query", "key", "value")]
            # Kernels are (hidden, heads, each), biases (heads, each).
            flat = [each.reshape(*each.shape[:-2], -1) for each in trio]
            joined[f"{attention}/qkv/{leaf}"] = np.concatenate(flat, axis=-1)
        elif attention.endswith(ATTENTION) and part == "out":
            joined[name] = array.reshape(-1, array.shape[-1]) if leaf == "kernel" else array
        elif part not in ("key", "value"):
            joined[name] = array
    return joined
