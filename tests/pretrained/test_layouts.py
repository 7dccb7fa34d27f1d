"""Files of layouts that no reader translates, and names with a prefix, are refused by name in a few lines."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.pretrained import layouts
from tests.pretrained.tiny import refused, tiny_arrays, tiny_resnet, tiny_vit
from tests.published import save_google, torchvision_arrays

PREFIXES = ["module.", "model.", "_orig_mod.", "backbone.", "module._orig_mod.model."]


def timm_vit(layers: int = 12) -> dict[str, np.ndarray]:
    """Returns zeros under timm's names of a ViT, 8 wide."""
    arrays = {"cls_token": (1, 1, 8), "pos_embed": (1, 17, 8), "patch_embed.proj.weight": (8, 3, 16, 16)}
    for layer in range(layers):
        for name, shape in (("attn.qkv", (24, 8)), ("attn.proj", (8, 8)), ("mlp.fc1", (12, 8)), ("mlp.fc2", (8, 12))):
            arrays |= {f"blocks.{layer}.{name}.weight": shape, f"blocks.{layer}.{name}.bias": shape[:1]}
        arrays |= {f"blocks.{layer}.norm{norm}.{leaf}": (8,) for norm in (1, 2) for leaf in ("weight", "bias")}
    arrays |= {"norm.weight": (8,), "norm.bias": (8,), "head.weight": (5, 8), "head.bias": (5,)}
    return {name: np.zeros(shape, np.float32) for name, shape in arrays.items()}


def _save(path, arrays, prefix=""):
    safetensors.numpy.save_file({prefix + name: array for name, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefix_of_a_layout_that_is_read_is_named_first(tmp_path, prefix):
    file = _save(tmp_path / "w.safetensors", torchvision_arrays(18, 7, stage_sizes=(1, 1)), prefix)
    message = refused(file, *tiny_resnet())
    assert message == (
        f"{file} has 32 arrays with names of torchvision's ResNet after the prefix '{prefix}', which is not "
        f"supported; save each array as name.removeprefix('{prefix}')"
    )


def test_prefix_may_be_missing_from_some_arrays(tmp_path):
    arrays = torchvision_arrays(18, 7, stage_sizes=(1, 1))
    arrays = {name if name.startswith("fc") else f"backbone.{name}": array for name, array in arrays.items()}
    refused(_save(tmp_path / "w.safetensors", arrays), *tiny_resnet(), "ResNet after the prefix 'backbone.', which")


def test_prefix_of_an_archive_is_named(tmp_path):
    arrays = {f"model/{name}": array for name, array in tiny_arrays().items()}
    file = save_google(tmp_path / "w.npz", arrays)
    refused(file, *tiny_vit(), f"has {len(arrays)} arrays with names of Google's ViT after the prefix 'model/', which")


@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_layout_that_is_not_read_is_named_first(tmp_path, prefix):
    file = _save(tmp_path / "w.safetensors", timm_vit(), prefix)
    for model in (tiny_vit(), tiny_resnet()):
        message = refused(
            file, *model, "are not supported; allowed: Google's ViT (.npz), torchvision's ResNet (.safetensors"
        )
        after = f" after the prefix '{prefix}'" if prefix else ""
        assert message.startswith(f"{file} has 151 arrays with names of timm's ViT{after}, ")
        assert len(message) - len(str(file)) < 400


def test_prefix_of_an_unknown_layout_is_named_first(tmp_path):
    arrays = {f"net.{name}".replace("blocks", "layers"): array for name, array in timm_vit().items()}
    file = _save(tmp_path / "w.safetensors", arrays)
    message = refused(file, *tiny_vit(), "Not in the model: 'net.cls_token' (1, 1, 8); 'net.", " and 148 more. ")
    assert message.startswith(f"{file} has names that share the prefix 'net.' and does not fit this VisionTransformer")
    assert len(message) - len(str(file)) < 800


# Published names; each set is read off a model card or the library's source.
NAMES = {
    "timm's BEiT": ["blocks.0.attn.q_bias", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"],
    "timm's EVA02": ["blocks.0.attn.q_proj.weight", "blocks.0.mlp.fc1_g.weight", "patch_embed.proj.weight"],
    "timm's ConvNeXt": ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.fc.weight"],
    "transformers' ViT": [
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.encoder.layer.0.attention.attention.query.weight",
        "classifier.weight",
    ],
    "transformers' CLIP or SigLIP": [
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "text_model.encoder.layers.0.self_attn.q_proj.weight",
    ],
    "OpenAI's CLIP (ViT)": [
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "transformer.resblocks.0.attn.in_proj_weight",
    ],
    "OpenAI's CLIP (ResNet)": [
        "visual.attnpool.q_proj.weight",
        "visual.layer1.0.conv1.weight",
        "visual.bn1.running_mean",
    ],
    "Facebook's ConvNeXt": ["downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "head.weight"],
    "big_vision's ViT": ["params/img/pos_embedding", "params/img/Transformer/encoder_norm/scale", "params/t"],
    "Google's ViT": ["params/Transformer/posembed_input/pos_embedding", "params/Transformer/encoder_norm/scale"],
}


@pytest.mark.parametrize("name", NAMES)
def test_layout_is_identified_by_its_published_names(name):
    prefix = {"transformers' ViT": "vit.", "big_vision's ViT": "params/img/", "Google's ViT": "params/"}.get(name, "")
    assert layouts.identify(NAMES[name]) == (name, prefix)


def test_each_layout_is_identified_by_its_own_names():
    """No earlier layout matches them, with or without a prefix."""
    for layout, names in layouts.LAYOUTS.items():
        for prefix in ("", "module."):
            assert layouts.identify([*(prefix + name for name in names), "extra.weight"]) == (layout, prefix)


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["a.b.c", "a.b.d"], "a.b."),
        (["a/bc", "a/bd"], "a/"),
        (["ab", "ac"], ""),
        (["a.b"], ""),
        ([], ""),
        (["xlayer1.0.conv1.weight", "xbn1.running_mean"], ""),
    ],
)
def test_names_of_an_unknown_layout_share_a_prefix(names, prefix):
    assert layouts.identify(names) == (None, prefix)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state"])
def test_checkpoint_is_refused_with_the_entry_that_holds_the_weights(tmp_path, monkeypatch, key):
    """torch is not required; a stub returns the content of the file."""
    tensor = SimpleNamespace(detach=None)
    inner = {f"model.{name}": tensor for name in timm_vit()}
    content = {"epoch": 3, "hyper_parameters": {"lr": 0.1}, key: inner, "optimizer": {"state": {0: {"x": tensor}}}}
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=lambda *_, **__: content))
    file = tmp_path / "w.pth"
    file.write_bytes(b"x")
    message = refused(file, *tiny_vit())
    assert message == (
        f"{file} is a training checkpoint; its entry ['{key}'] has 151 arrays with names of timm's ViT after the "
        f"prefix 'model.'; save it alone: torch.save(torch.load('{file}')['{key}'], 'weights.pth')"
    )
