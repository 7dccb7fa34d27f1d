"""The layouts of published weights, recognised by the names of a file's arrays."""

import os
import re
from collections.abc import Collection
from typing import NamedTuple

from animesion_jax.errors import InputError, shorten

# The layouts that a reader translates, by the endings of files.
GOOGLE, BIG_VISION = "Google's ViT", "big_vision's ViT"
SINE_COSINE = "big_vision's ViT without a table of positions"
TORCHVISION, TIMM_VIT, BEIT = "torchvision's ResNet", "timm's ViT", "timm's BEiT"
EVA02, BAAI_EVA02 = "timm's EVA02", "BAAI's EVA02"
TRANSFORMERS_4, TRANSFORMERS_5 = "transformers' ViT", "transformers' ViT (since 5.0)"
NPZ = (GOOGLE, BIG_VISION)
TORCH = (TORCHVISION, TIMM_VIT, BEIT, EVA02, BAAI_EVA02, TRANSFORMERS_4, TRANSFORMERS_5)
# Longest name in an error message, in characters. Ours have up to 77.
MAX_NAME = 80
# Trainers store the parameters of their state under these; google.py removes them.
READ_PREFIX = re.compile(r"(opt/target/)?(params/)?")
# PyTorch's wrappers of models add these to every name; torch_files.py removes them.
WRAPPERS = re.compile(r"((module|model|_orig_mod)\.)*")
# The prefixes that readers take off, by layout; `WRAPPERS` for layouts that are not here.
PREFIXES = {
    GOOGLE: READ_PREFIX,
    BIG_VISION: re.compile(r"(params/)?(img/)?"),
    SINE_COSINE: re.compile(r"(params/)?(img/)?"),
    TRANSFORMERS_4: re.compile(WRAPPERS.pattern + r"(vit\.)?"),
    TRANSFORMERS_5: re.compile(WRAPPERS.pattern + r"(vit\.)?"),
}
MAP_HEAD, JAX_CV = "timm's ViT with a MAP head", "JAX-CV's ViT"
# The files to give instead, by layout.
INSTEAD = {
    MAP_HEAD: "timm's file of the same weights with siglip_gap in its name",
    JAX_CV: "the model.safetensors of the same repository",
    "transformers' DINOv2": "timm's file of the same weights, such as timm/vit_base_patch14_dinov2.lvd142m",
    "transformers' BEiT": "timm's file of the same weights, such as timm/beit_base_patch16_224.in22k_ft_in22k",
}
# Names that identify a layout, all after one prefix. A layout that has the names of another one, and more, comes first.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "timm's Swin Transformer": ("layers.0.blocks.0.attn.qkv.weight",),
    "timm's EVA or small EVA02": ("blocks.0.attn.q_bias", "blocks.0.attn.qkv.weight", "pos_embed"),
    "timm's DINOv3": ("blocks.0.gamma_1", "reg_token", "blocks.0.attn.qkv.weight"),
    BEIT: ("blocks.0.attn.q_bias", "blocks.0.attn.qkv.weight"),
    "timm's EVA02-CLIP": ("blocks.0.attn.norm.weight", "blocks.0.attn.q_proj.weight", "blocks.0.mlp.fc1_g.weight"),
    EVA02: ("blocks.0.attn.q_proj.weight", "blocks.0.mlp.fc1_g.weight"),
    BAAI_EVA02: ("blocks.0.attn.q_proj.weight", "blocks.0.mlp.w1.weight"),
    MAP_HEAD: ("attn_pool.latent", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
    "timm's DeiT with a distillation token": ("dist_token", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
    "timm's CLIP ViT": ("norm_pre.weight", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
    TIMM_VIT: ("blocks.0.attn.qkv.weight", "patch_embed.proj.weight"),
    "timm's ConvNeXt": ("stages.0.blocks.0.conv_dw.weight",),
    "timm's EfficientNet": ("conv_stem.weight", "blocks.0.0.conv_dw.weight"),
    "torchvision's ViT": ("encoder.layers.encoder_layer_0.self_attention.in_proj_weight",),
    "torchvision's ConvNeXt": ("features.1.0.layer_scale",),
    "transformers' DINOv2": (
        "encoder.layer.0.layer_scale1.lambda1",
        "encoder.layer.0.attention.attention.query.weight",
        "embeddings.patch_embeddings.projection.weight",
    ),
    "transformers' DINOv2 (since 5.0)": (
        "encoder.layer.0.layer_scale1.lambda1",
        "encoder.layer.0.attention.q_proj.weight",
        "embeddings.patch_embeddings.projection.weight",
    ),
    "transformers' BEiT": (
        "encoder.layer.0.lambda_1",
        "encoder.layer.0.attention.attention.query.weight",
        "embeddings.patch_embeddings.projection.weight",
    ),
    TRANSFORMERS_4: (
        "encoder.layer.0.attention.attention.query.weight",
        "embeddings.patch_embeddings.projection.weight",
    ),
    TRANSFORMERS_5: (
        "layers.0.attention.q_proj.weight",
        "embeddings.patch_embeddings.projection.weight",
    ),
    "transformers' ResNet": (
        "embedder.embedder.convolution.weight",
        "encoder.stages.0.layers.0.layer.0.convolution.weight",
    ),
    "transformers' ConvNeXt": ("encoder.stages.0.layers.0.dwconv.weight",),
    "transformers' CLIP or SigLIP": ("vision_model.encoder.layers.0.self_attn.q_proj.weight",),
    "transformers' CLIP or SigLIP (image tower)": (
        "encoder.layers.0.self_attn.q_proj.weight",
        "embeddings.patch_embedding.weight",
    ),
    "transformers' DINOv3": ("model.layer.0.attention.q_proj.weight", "embeddings.register_tokens"),
    "OpenAI's CLIP (ViT)": ("visual.transformer.resblocks.0.attn.in_proj_weight",),
    "OpenAI's CLIP (ResNet)": ("visual.attnpool.q_proj.weight", "visual.layer1.0.conv1.weight"),
    "Facebook's ConvNeXt": ("stages.0.0.dwconv.weight", "downsample_layers.0.0.weight"),
    JAX_CV: ("vit_body_0/Attention_0/qkv/kernel", "patch_embed/Conv_0/kernel"),
    BIG_VISION: ("pos_embedding", "Transformer/encoder_norm/scale"),
    "Google's MLP-Mixer": ("MixerBlock_0/token_mixing/Dense_0/kernel",),
    "Google's BiT": ("root_block/standardized_conv2d/kernel",),
    TORCHVISION: ("layer1.0.conv1.weight", "bn1.running_mean"),
    GOOGLE: ("Transformer/posembed_input/pos_embedding", "Transformer/encoder_norm/scale"),
    SINE_COSINE: (
        "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel",
        "Transformer/encoder_norm/scale",
        "embedding/kernel",
    ),
}


class Layout(NamedTuple):
    """The layout of a file's arrays.

    Attributes:
      name: a key of `LAYOUTS`; None for an unknown layout.
      prefix: shared by the names of a known layout, or by all names of an unknown one; "" without a prefix.
    """

    name: str | None
    prefix: str

    def __str__(self) -> str:
        prefix = f"the prefix '{shorten(self.prefix, MAX_NAME)}'" if self.prefix else ""
        if self.name is None:
            return f"names that share {prefix}" if prefix else "names of an unknown layout"
        return f"names of {self.name}" + (f" after {prefix}" if prefix else "")


def identify(names: Collection[str]) -> Layout:
    """Returns the layout of arrays by their names, such as "module.layer1.0.conv1.weight"."""
    names = set(names)
    for layout, (first, *others) in LAYOUTS.items():
        prefixes = (name.removesuffix(first) for name in names if name.endswith(first))
        for prefix in sorted(prefixes, key=lambda prefix: (len(prefix), prefix)):
            if prefix[-1:] in ("", ".", "/") and all(prefix + other in names for other in others):
                return Layout(layout, prefix)
    shared = os.path.commonprefix(list(names)) if len(names) > 1 else ""  # noqa: RUF071 - by letter, then cut
    return Layout(None, shared[: max(shared.rfind("."), shared.rfind("/")) + 1])


def check(source: str, names: Collection[str], read: Collection[str]) -> Layout:
    """Returns the layout; InputError if it or its prefix is not supported. Unknown layouts are accepted.

    Args:
      source: the file, for messages.
      names: of its arrays.
      read: the layouts that the reader of such files supports.
    """
    layout = identify(names)
    if layout.name is None:
        return layout
    if layout.name not in read:
        allowed = f"{', '.join(NPZ)} (.npz), {', '.join(TORCH)} (.safetensors, .pth), a bundle or workdir of ours"
        instead = INSTEAD.get(layout.name, "a name that `animesion configs --weights` lists")
        raise InputError(
            f"{source} has {len(names)} arrays with {layout}, which are not supported; allowed: {allowed}, or {instead}"
        )
    if not PREFIXES.get(layout.name, WRAPPERS).fullmatch(layout.prefix):
        raise InputError(
            f"{source} has {len(names)} arrays with {layout}, which is not supported; save each array as "
            f"name.removeprefix('{shorten(layout.prefix, MAX_NAME)}')"
        )
    return layout
