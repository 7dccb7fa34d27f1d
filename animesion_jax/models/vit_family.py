"""The record of the Vision Transformers and of Google's hybrids with a ResNet stem."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from animesion_jax.models import vit
from animesion_jax.models.family import HEAD, Family, Positions, Rollout, Shapes, Timm, count_units
from animesion_jax.models.vit import VisionTransformer

CLASS_TOKEN = "params/cls"
PRE_LOGITS = "params/pre_logits/kernel"
EMBEDDING = "params/embedding/kernel"
POSITIONS = "params/Transformer/posembed_input/pos_embedding"
REGISTERS = "params/Transformer/registers"
FC_NORM = "params/fc_norm/scale"
BLOCK = "Transformer/encoderblock_{}"
ATTENTION = f"{BLOCK}/MultiHeadDotProductAttention_0"
QUERY = f"params/{ATTENTION.format(0)}/query/kernel"
MLP = "params/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel"


def _identify(shapes: Shapes) -> str | None:
    """Returns "vit_b16" for its arrays, a description for those of an unpublished size, None for other models.

    Kernels whose heads are one axis, as in PyTorch's files, leave the number of heads unknown.
    """
    dimensions = {EMBEDDING: (4,), QUERY: (2, 3), MLP: (2,)}
    if not all(name in shapes and len(shapes[name].shape) in allowed for name, allowed in dimensions.items()):
        return None
    patch, hidden_size = shapes[EMBEDDING].shape[0], shapes[EMBEDDING].shape[-1]
    size = {
        "hidden_size": hidden_size,
        "num_layers": sum(count_units(shapes, r"params/(Transformer)/encoderblock_(\d+)/")),
        "mlp_dim": shapes[MLP].shape[-1],
    }
    if len(shapes[QUERY].shape) == 3:
        size["num_heads"] = shapes[QUERY].shape[1]
    stem_sizes = count_units(shapes, r"params/block(\d+)/unit(\d+)/")
    found = {"patch_size": patch, "stem_sizes": stem_sizes, **size}
    for name, model in MODELS.items():
        if model.keywords.items() >= found.items():
            return name
    return f"a ViT of patch {patch}, stem {stem_sizes}, {size}"


def _read_options(shapes: Shapes) -> dict[str, Any]:
    """Returns the options that the arrays reveal; none for another family, and none that a damaged file hides."""
    if EMBEDDING not in shapes:
        return {}
    options = {"pre_logits": PRE_LOGITS in shapes, "fc_norm": FC_NORM in shapes, "registers": 0}
    if REGISTERS in shapes and len(shapes[REGISTERS].shape) == 3:
        options["registers"] = shapes[REGISTERS].shape[1]
    table = shapes[POSITIONS].shape if POSITIONS in shapes else ()
    if CLASS_TOKEN in shapes:
        options |= {"pool": "mean" if options["fc_norm"] else "token", "class_token": True}
    elif len(table) == 3 and math.isqrt(table[1]) ** 2 == table[1]:
        options |= {"pool": "mean", "class_token": False}
    return options


# Size, patch in pixels of the stem's output, and units per stage of the stem.
MODELS = {
    name: partial(VisionTransformer, patch_size=patch_size, stem_sizes=stem_sizes, **vit.SIZES[size])
    for name, size, patch_size, stem_sizes in (
        ("vit_ti16", "ti", 16, ()),
        ("vit_s16", "s", 16, ()),
        ("vit_s32", "s", 32, ()),
        ("vit_b16", "b", 16, ()),
        ("vit_b32", "b", 32, ()),
        ("vit_l16", "l", 16, ()),
        ("vit_l32", "l", 32, ()),
        ("vit_h14", "h", 14, ()),
        ("vit_s14", "s", 14, ()),
        ("vit_b14", "b", 14, ()),
        ("vit_l14", "l", 14, ()),
        ("vit_so400m14", "so400m", 14, ()),
        ("r50_vit_b16", "b", 1, (3, 4, 9)),
        ("r26_vit_b32", "b", 1, (2, 2, 2, 2)),
        ("r50_vit_l32", "l", 1, (3, 4, 6, 3)),
    )
}

# timm's GELU is exact by default.
ACTIVATIONS = {"tanh": {"act_layer": "gelu_tanh"}, "erf": {}}
POOLS = {"token": "token", "mean": "avg"}
# timm has these models only with LayerScale, so give its models of 16 px another patch size.
PATCHES = {name: {"patch_size": 14} for name in ("vit_s14", "vit_b14")}


def _timm_arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `timm.create_model`, except the epsilon, for which it has no argument in JSON."""
    pool, registers = description.get("pool", "token"), description.get("registers", 0)
    class_token = description.get("class_token")
    return {
        "class_token": pool == "token" if class_token is None else class_token,
        "global_pool": POOLS[pool],
        "fc_norm": description.get("fc_norm", False),
        **({"reg_tokens": registers, "no_embed_class": True} if registers else {}),
        **ACTIVATIONS[description.get("gelu", "tanh")],
        **PATCHES.get(description["name"], {}),
    }


ANY_BLOCK = BLOCK.format(r"(\d+)")
TIMM = Timm(
    models={
        "vit_ti16": "vit_tiny_patch16_224",
        "vit_s16": "vit_small_patch16_224",
        "vit_s32": "vit_small_patch32_224",
        "vit_b16": "vit_base_patch16_224",
        "vit_b32": "vit_base_patch32_224",
        "vit_l16": "vit_large_patch16_224",
        "vit_l32": "vit_large_patch32_224",
        "vit_h14": "vit_huge_patch14_224",
        "vit_s14": "vit_small_patch16_224",
        "vit_b14": "vit_base_patch16_224",
        "vit_l14": "vit_large_patch14_224",
        "vit_so400m14": "vit_so400m_patch14_siglip_gap_224",
        "r26_vit_b32": "vit_base_r26_s32_224",
        "r50_vit_b16": "vit_base_r50_s16_224",
        "r50_vit_l32": "vit_large_r50_s32_224",
    },
    # timm counts from 0; the stem's stages and units count from 1 in Google's files.
    names=(
        ("cls", "cls_token"),
        ("Transformer/posembed_input/pos_embedding", "pos_embed"),
        ("Transformer/registers", "reg_token"),
        ("embedding", "patch_embed.proj"),
        ("Transformer/encoder_norm", "norm"),
        ("fc_norm", "fc_norm"),
        (HEAD, "head"),
        (f"{ANY_BLOCK}/LayerNorm_0", "blocks.{0}.norm1"),
        (f"{ANY_BLOCK}/LayerNorm_1", "blocks.{0}.norm2"),
        (f"{ANY_BLOCK}/MlpBlock_0/Dense_0", "blocks.{0}.mlp.fc1"),
        (f"{ANY_BLOCK}/MlpBlock_0/Dense_1", "blocks.{0}.mlp.fc2"),
        (f"{ANY_BLOCK}/MultiHeadDotProductAttention_0/out", "blocks.{0}.attn.proj"),
        # pretrained/timm_vit.py joins query, key and value.
        (f"{ANY_BLOCK}/MultiHeadDotProductAttention_0/qkv", "blocks.{0}.attn.qkv"),
        ("conv_root", "patch_embed.backbone.stem.conv"),
        ("gn_root", "patch_embed.backbone.stem.norm"),
        (r"block(\d+)/unit(\d+)/conv_proj", "patch_embed.backbone.stages.{0:-1}.blocks.{1:-1}.downsample.conv"),
        (r"block(\d+)/unit(\d+)/gn_proj", "patch_embed.backbone.stages.{0:-1}.blocks.{1:-1}.downsample.norm"),
        (r"block(\d+)/unit(\d+)/conv(\d)", "patch_embed.backbone.stages.{0:-1}.blocks.{1:-1}.conv{2}"),
        (r"block(\d+)/unit(\d+)/gn(\d)", "patch_embed.backbone.stages.{0:-1}.blocks.{1:-1}.norm{2}"),
    ),
    # GroupNorms have an epsilon of 1e-5 in timm's hybrids, 1e-6 in Google's; no argument of timm changes it.
    arguments=_timm_arguments,
)

FAMILY = Family(
    name="vit",
    models=MODELS,
    options={
        "pool": vit.POOLS,
        "class_token": (None, False, True),
        "fc_norm": (False, True),
        "registers": (0, 4),
        "epsilon": vit.EPSILONS,
        "pre_logits": (False, True),
        "gelu": vit.GELUS,
        "embedding_initializer": tuple(vit.EMBEDDING_INITIALIZERS),
        "dropout_places": tuple(vit.DROPOUT_PLACES),
    },
    dropout_rate=0.1,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    optimizer="adamw",
    has_batch_norm=False,
    explain=Rollout(
        layers=lambda model: [f"{ATTENTION.format(place)}/dot_product" for place in range(model.num_layers)],
        num_prefix_tokens=lambda model: model.num_prefix_tokens,
        sees_class_token=lambda model: model.pool == "token",
    ),
    # For the paper's models the files that the paper started from.
    weights={
        "vit_ti16": "google/augreg/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
        "vit_s16": "google/augreg/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
        "vit_s32": "google/augreg/S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0",
        "vit_b16": "google/imagenet21k/ViT-B_16",
        "vit_b32": "google/imagenet21k/ViT-B_32",
        "vit_l16": "google/imagenet21k/ViT-L_16",
        "vit_l32": "google/imagenet21k/ViT-L_32",
        "vit_h14": "google/imagenet21k/ViT-H_14",
        "vit_s14": "timm/vit_small_patch14_dinov2.lvd142m",
        "vit_b14": "timm/vit_base_patch14_dinov2.lvd142m",
        "vit_l14": "timm/vit_large_patch14_dinov2.lvd142m",
        "vit_so400m14": "timm/vit_so400m_patch14_siglip_gap_224.v2_webli",
        "r50_vit_b16": "google/imagenet21k/R50+ViT-B_16",
        "r26_vit_b32": "google/imagenet21k/R26+ViT-B_32",
        "r50_vit_l32": "google/imagenet21k/R50+ViT-L_32",
    },
    timm=TIMM,
    identify=_identify,
    read_options=_read_options,
    optional=("pre_logits",),
    positions=Positions(POSITIONS, CLASS_TOKEN),
)
