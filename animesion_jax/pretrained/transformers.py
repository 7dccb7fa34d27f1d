"""ViTs in transformers, with the names of its 4.x and 5.x releases."""

import re
from collections.abc import Mapping

import numpy as np

from animesion_jax.models import HEAD
from animesion_jax.pretrained.merge import Fate, Weights
from animesion_jax.pretrained.torch_layout import LEAVES, from_torch_layout

BLOCK = r"Transformer/encoderblock_\1"
# A layer in 4.x and in 5.x.
LAYER = r"(?:encoder\.layer|layers)\.(\d+)"
# Modules of a layer; `MODULES` puts `LAYER` before each pattern.
LAYER_MODULES = {
    r"attention\.attention\.(query|key|value)": rf"{BLOCK}/MultiHeadDotProductAttention_0/\2",
    r"attention\.q_proj": f"{BLOCK}/MultiHeadDotProductAttention_0/query",
    r"attention\.k_proj": f"{BLOCK}/MultiHeadDotProductAttention_0/key",
    r"attention\.v_proj": f"{BLOCK}/MultiHeadDotProductAttention_0/value",
    r"attention\.(?:output\.dense|o_proj)": f"{BLOCK}/MultiHeadDotProductAttention_0/out",
    r"(?:intermediate\.dense|mlp\.fc1)": f"{BLOCK}/MlpBlock_0/Dense_0",
    r"(?:output\.dense|mlp\.fc2)": f"{BLOCK}/MlpBlock_0/Dense_1",
    r"layernorm_before": f"{BLOCK}/LayerNorm_0",
    r"layernorm_after": f"{BLOCK}/LayerNorm_1",
}
MODULES = {rf"{LAYER}\.{pattern}": name for pattern, name in LAYER_MODULES.items()} | {
    r"embeddings\.patch_embeddings\.projection": "embedding",
    r"layernorm": "Transformer/encoder_norm",
    r"pooler\.dense": "pre_logits",
    r"classifier": HEAD,
}
PARAMETERS = {
    "embeddings.cls_token": "cls",
    "embeddings.position_embeddings": "Transformer/posembed_input/pos_embedding",
}
MASK_TOKEN = "embeddings.mask_token"
# In ViTForImageClassification, all names but the classifier's have it.
PREFIX = "vit."


def translate(weights: Weights, arrays: Mapping[str, np.ndarray]) -> None:
    """Adds the arrays of a ViT under our names and in our layout; unknown arrays keep their own names.

    They are those of ViTModel or ViTForImageClassification. transformers has an epsilon of 1e-12 and the exact GELU,
    which the arrays do not reveal.
    """
    for name, array in arrays.items():
        key = name.removeprefix(PREFIX)
        path, _, leaf = key.rpartition(".")
        if (leaf, array.ndim) in LEAVES and (module := _module_name(path)):
            weights.add(LEAVES[leaf, array.ndim].format(module), name, from_torch_layout(array))
        elif key == MASK_TOKEN:
            weights.fates.append(Fate(key, "left out: only the training without labels needs it", array.size))
        elif key in PARAMETERS:
            weights.add(f"params/{PARAMETERS[key]}", name, array)
        else:
            weights.add(name, name, array)


def _module_name(path: str) -> str | None:
    """Returns our name of a module, such as "Transformer/encoderblock_3/LayerNorm_0"; None for an unknown one."""
    found = ((re.fullmatch(pattern, path), name) for pattern, name in MODULES.items())
    return next((match.expand(name) for match, name in found if match), None)
