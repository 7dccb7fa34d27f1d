"""Google's random weights of a ViT under the names and in the layouts of timm and transformers.

The names are literals from the libraries' published files.
"""

from collections.abc import Mapping

import numpy as np

from tests.published import Arrays

QKV = ("query", "key", "value")
TIMM = {
    "MultiHeadDotProductAttention_1/out": "attn.proj",
    "LayerNorm_0": "norm1",
    "LayerNorm_2": "norm2",
    "MlpBlock_3/Dense_0": "mlp.fc1",
    "MlpBlock_3/Dense_1": "mlp.fc2",
}
TRANSFORMERS = {
    4: {
        "MultiHeadDotProductAttention_1/query": "attention.attention.query",
        "MultiHeadDotProductAttention_1/key": "attention.attention.key",
        "MultiHeadDotProductAttention_1/value": "attention.attention.value",
        "MultiHeadDotProductAttention_1/out": "attention.output.dense",
        "LayerNorm_0": "layernorm_before",
        "LayerNorm_2": "layernorm_after",
        "MlpBlock_3/Dense_0": "intermediate.dense",
        "MlpBlock_3/Dense_1": "output.dense",
    },
    5: {
        "MultiHeadDotProductAttention_1/query": "attention.q_proj",
        "MultiHeadDotProductAttention_1/key": "attention.k_proj",
        "MultiHeadDotProductAttention_1/value": "attention.v_proj",
        "MultiHeadDotProductAttention_1/out": "attention.o_proj",
        "LayerNorm_0": "layernorm_before",
        "LayerNorm_2": "layernorm_after",
        "MlpBlock_3/Dense_0": "mlp.fc1",
        "MlpBlock_3/Dense_1": "mlp.fc2",
    },
}
LAYERS = {4: "encoder.layer", 5: "layers"}


def timm_arrays(google: Mapping[str, np.ndarray]) -> Arrays:
    """Returns timm's state dict of `google_arrays(...)`, of "Transformer/registers" and of "fc_norm" if it has them."""
    names = {"embedding": "patch_embed.proj", "head": "head", "Transformer/encoder_norm": "norm", "fc_norm": "fc_norm"}
    arrays = _modules(google, names)
    tokens = {
        "cls": "cls_token", "Transformer/posembed_input/pos_embedding": "pos_embed",
        "Transformer/registers": "reg_token",
    }  # fmt: skip
    arrays |= {new: google[old] for old, new in tokens.items() if old in google}
    for layer in range(_count_layers(google)):
        block = f"Transformer/encoderblock_{layer}"
        arrays |= _modules(google, {f"{block}/{old}": f"blocks.{layer}.{new}" for old, new in TIMM.items()})
        trio = [_modules(google, {f"{block}/MultiHeadDotProductAttention_1/{part}": part}) for part in QKV]
        for leaf in ("weight", "bias"):
            parts = [each[f"{part}.{leaf}"] for part, each in zip(QKV, trio, strict=True)]
            arrays[f"blocks.{layer}.attn.qkv.{leaf}"] = np.concatenate(parts)
    return arrays


def transformers_arrays(google: Mapping[str, np.ndarray], release: int, prefix: str = "") -> Arrays:
    """Returns the state dict of transformers' ViT for `google_arrays(...)`.

    Args:
      google: a ViT with a class token.
      release: 4 or 5.
      prefix: "vit." for a model with a classifier, which has none.
    """
    names = {"embedding": "embeddings.patch_embeddings.projection", "Transformer/encoder_norm": "layernorm"}
    arrays = _modules(google, names | {"pre_logits": "pooler.dense"}) | {
        "embeddings.cls_token": google["cls"],
        "embeddings.position_embeddings": google["Transformer/posembed_input/pos_embedding"],
    }
    for layer in range(_count_layers(google)):
        block = f"Transformer/encoderblock_{layer}"
        renamed = {f"{block}/{old}": f"{LAYERS[release]}.{layer}.{new}" for old, new in TRANSFORMERS[release].items()}
        arrays |= _modules(google, renamed)
    return {prefix + name: array for name, array in arrays.items()} | _modules(google, {"head": "classifier"})


def _count_layers(google: Mapping[str, np.ndarray]) -> int:
    return sum(name.endswith("LayerNorm_2/scale") for name in google)


def _modules(google: Mapping[str, np.ndarray], names: Mapping[str, str]) -> Arrays:
    """Returns the modules of Google's names under PyTorch's: kernels as (outputs, inputs, ...), heads joined."""
    arrays = {}
    for old, new in names.items():
        if (kernel := google.get(f"{old}/kernel")) is not None:
            bias = google[f"{old}/bias"].reshape(-1)
            flat = kernel if old == "embedding" else kernel.reshape(-1, bias.size)
            arrays |= {f"{new}.weight": np.moveaxis(flat, (-1, -2), (0, 1)), f"{new}.bias": bias}
        elif f"{old}/scale" in google:
            arrays |= {f"{new}.weight": google[f"{old}/scale"], f"{new}.bias": google[f"{old}/bias"]}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
