"""Which published model a set of arrays belongs to, told by their names and shapes."""

import math
import re
from collections import Counter
from collections.abc import Mapping

import numpy as np

from animesion_jax.errors import InputError
from animesion_jax.models import hybrid, resnet, vit

CLS = "params/cls"
PRE_LOGITS = "params/pre_logits/kernel"
EMBEDDING = "params/embedding/kernel"
POSITIONS = "params/Transformer/posembed_input/pos_embedding"
QUERY = "params/Transformer/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel"
MLP = "params/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel"


def check(source: str, found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    """Raises InputError when the file's arrays and the model's variables belong to different known models."""
    file, model = name_variant(found), name_variant(wanted)
    if file and model and file != model:
        raise InputError(f"{source} holds {file}, the model is {model}; give weights of {model}, or train {file}")
    if EMBEDDING not in found or EMBEDDING not in wanted:
        return
    file_pool, model_pool = _pool(found), _pool(wanted)
    if file_pool and model_pool and file_pool != model_pool:
        raise InputError(
            f"{source} has pool '{file_pool}' ({'a' if CLS in found else 'no'} class token), the model pool "
            f"'{model_pool}'; set --config.vit.pool={file_pool}, or pool='{file_pool}' in create_model"
        )
    if PRE_LOGITS in wanted and PRE_LOGITS not in found:
        raise InputError(
            f"{source} has no pre_logits, the model has; set --config.vit.pre_logits=False, or give one of Google's "
            "imagenet21k/ files"
        )


def _pool(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Returns the pool; None where neither a class token nor a place for every patch is there, as in damaged files."""
    if CLS in arrays:
        return "token"
    shape = arrays[POSITIONS].shape if POSITIONS in arrays else ()
    return "mean" if len(shape) == 3 and math.isqrt(shape[1]) ** 2 == shape[1] else None


def has_other_grid(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> bool:
    """Returns whether both have position embeddings that differ in their number of tokens alone."""
    if POSITIONS not in found or POSITIONS not in wanted:
        return False
    old, new = found[POSITIONS].shape, wanted[POSITIONS].shape
    return len(old) == 3 and (old[0], old[2]) == (new[0], new[2]) and old[1] != new[1]


def name_variant(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Returns the name of the model that arrays, by our names, belong to; a description if it has none.

    None where the arrays are of no family that is told apart here, or too few of them are there.
    """
    if all(name in arrays and len(arrays[name].shape) == ndim for name, ndim in ((EMBEDDING, 4), (QUERY, 3), (MLP, 2))):
        return _name_vit(arrays)
    if "params/conv1/kernel" in arrays and "params/layer1_0/conv1/kernel" in arrays:
        return _name_resnet(arrays)
    return "shallownet" if "params/Conv_0/kernel" in arrays else None


def _name_vit(arrays: Mapping[str, np.ndarray]) -> str:
    patch, hidden_size = arrays[EMBEDDING].shape[0], arrays[EMBEDDING].shape[-1]
    layers = _count(arrays, r"params/Transformer/encoderblock_(\d+)/")
    size = {
        "hidden_size": hidden_size,
        "num_layers": len(layers),
        "num_heads": arrays[QUERY].shape[1],
        "mlp_dim": arrays[MLP].shape[-1],
    }
    letter = next((name for name, published in vit.SIZES.items() if published == size), None)
    units = Counter(block for block, _ in _count(arrays, r"params/block(\d+)/unit(\d+)/"))
    stem_sizes = tuple(units[block] for block in sorted(units, key=int))
    stem = next((name for name, published in hybrid.STEMS.items() if published == stem_sizes), None)
    stride = patch * hybrid.stem_stride(stem_sizes)
    if letter and not stem_sizes:
        return f"vit_{letter}{stride}"
    if letter and stem:
        return f"{stem.partition('_')[0]}_vit_{letter}{stride}"
    return f"a ViT of patch {patch}, stem {stem_sizes}, {size}"


def _name_resnet(arrays: Mapping[str, np.ndarray]) -> str:
    units = Counter(stage for stage, _ in _count(arrays, r"params/layer(\d+)_(\d+)/"))
    size = {
        "stage_sizes": tuple(units[stage] for stage in sorted(units, key=int)),
        "bottleneck": "params/layer1_0/conv3/kernel" in arrays,
    }
    depth = next((depth for depth, published in resnet.SIZES.items() if published == size), None)
    return f"resnet{depth}" if depth else f"a ResNet of {size}"


def _count(arrays: Mapping[str, np.ndarray], pattern: str) -> set:
    """Returns the distinct matches of a pattern's groups at the start of the names."""
    matches = (re.match(pattern, name) for name in arrays)
    return {match.groups() if match.re.groups > 1 else match.group(1) for match in matches if match}
