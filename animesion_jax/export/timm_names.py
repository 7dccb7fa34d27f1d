"""ViTs and hybrids in timm: `to_timm` has their state dict, `timm_arguments` the arguments of the model."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.models import HEAD
from animesion_jax.pretrained.merge import Arrays
from animesion_jax.pretrained.torchvision import TORCH_LEAVES, to_torch_layout

ARCHITECTURES = {
    "vit_ti16": "vit_tiny_patch16_224",
    "vit_s16": "vit_small_patch16_224",
    "vit_s32": "vit_small_patch32_224",
    "vit_b16": "vit_base_patch16_224",
    "vit_b32": "vit_base_patch32_224",
    "vit_l16": "vit_large_patch16_224",
    "vit_l32": "vit_large_patch32_224",
    "vit_h14": "vit_huge_patch14_224",
    "r26_vit_b32": "vit_base_r26_s32_224",
    "r50_vit_b16": "vit_base_r50_s16_224",
    "r50_vit_l32": "vit_large_r50_s32_224",
}
# timm defaults to the exact GELU and to the class token.
GELUS = {"tanh": {"act_layer": "gelu_tanh"}, "erf": {}}
POOLS = {"token": {}, "mean": {"class_token": False, "global_pool": "avg", "fc_norm": False}}

ATTENTION = "MultiHeadDotProductAttention_0"
# Parameters outside of modules.
TABLES = {"cls": "cls_token", "Transformer/posembed_input/pos_embedding": "pos_embed"}
# timm's names of modules. timm counts from 0; the stem's stages and units count from 1 in Google's files.
MODULES = (
    (HEAD, "head"),
    (r"embedding", "patch_embed.proj"),
    (r"Transformer/encoder_norm", "norm"),
    (r"Transformer/encoderblock_(\d+)/LayerNorm_0", "blocks.{0}.norm1"),
    (r"Transformer/encoderblock_(\d+)/LayerNorm_1", "blocks.{0}.norm2"),
    (r"Transformer/encoderblock_(\d+)/MlpBlock_0/Dense_0", "blocks.{0}.mlp.fc1"),
    (r"Transformer/encoderblock_(\d+)/MlpBlock_0/Dense_1", "blocks.{0}.mlp.fc2"),
    (rf"Transformer/encoderblock_(\d+)/{ATTENTION}/out", "blocks.{0}.attn.proj"),
    (rf"Transformer/encoderblock_(\d+)/{ATTENTION}/qkv", "blocks.{0}.attn.qkv"),
    (r"conv_root", "patch_embed.backbone.stem.conv"),
    (r"gn_root", "patch_embed.backbone.stem.norm"),
    (r"block(\d+)/unit(\d+)/conv_proj", "patch_embed.backbone.stages.{0}.blocks.{1}.downsample.conv"),
    (r"block(\d+)/unit(\d+)/gn_proj", "patch_embed.backbone.stages.{0}.blocks.{1}.downsample.norm"),
    (r"block(\d+)/unit(\d+)/conv(\d)", "patch_embed.backbone.stages.{0}.blocks.{1}.conv{2}"),
    (r"block(\d+)/unit(\d+)/gn(\d)", "patch_embed.backbone.stages.{0}.blocks.{1}.norm{2}"),
)


def to_timm(variables: Mapping[str, Any]) -> Arrays:
    """Returns a ViT's or hybrid's variables as timm's state dict. InputError for pre_logits, which timm lacks."""
    arrays = {}
    for name, array in _with_joined_heads(traverse_util.flatten_dict(variables["params"], sep="/")).items():
        module, _, leaf = name.rpartition("/")
        if name in TABLES:
            arrays[TABLES[name]] = array
        else:
            arrays[f"{_timm_module(module)}.{TORCH_LEAVES[leaf]}"] = to_torch_layout(array)
    return arrays


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


def _timm_module(module: str) -> str:
    for pattern, name in MODULES:
        if found := re.fullmatch(pattern, module):
            numbers = [int(each) for each in found.groups()]
            if "stages" in name:
                numbers[:2] = numbers[0] - 1, numbers[1] - 1
            return name.format(*numbers)
    raise InputError(f"timm's models have no counterpart of '{module}'; give --format=onnx")


def timm_arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `timm.create_model` for a bundle's description.

    GroupNorms have an epsilon of 1e-5 in timm's hybrids, 1e-6 in Google's; no argument of timm changes it.
    """
    return {
        "model_name": ARCHITECTURES[description["name"]],
        "num_classes": description["num_classes"],
        "img_size": description["image_size"],
        **GELUS[description.get("gelu", "tanh")],
        **POOLS[description.get("pool", "token")],
    }
