"""Prefixes of wrappers are taken off; layouts that no reader translates, and other prefixes, are refused by name."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.pretrained import layouts, load_pretrained, torch_files
from tests.pretrained.tiny import flatten, refused, tiny_arrays, tiny_resnet, tiny_vit
from tests.published import save_google, torchvision_arrays
from tests.torch_vits import timm_arrays

WRAPPERS = ["module.", "model.", "_orig_mod.", "module._orig_mod.model."]
PREFIXES = ["backbone.", "encoder.", "module.backbone.", "model.net."]


def timm_vit() -> dict[str, np.ndarray]:
    """Returns timm's arrays of `tiny_vit`."""
    return timm_arrays(tiny_arrays())


def swin() -> dict[str, np.ndarray]:
    """Returns arrays under names of timm's Swin Transformer, which is not read."""
    return {f"layers.0.{name}": array for name, array in timm_vit().items()}


def _resnet() -> dict[str, np.ndarray]:
    return torchvision_arrays(18, 7, stage_sizes=(1, 1))


def _save(path, arrays, prefix=""):
    safetensors.numpy.save_file({prefix + name: array for name, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize("prefix", WRAPPERS)
@pytest.mark.parametrize(("arrays", "model"), [(timm_vit, tiny_vit), (_resnet, tiny_resnet)])
def test_prefix_of_a_wrapper_is_taken_off(tmp_path, capsys, arrays, model, prefix):
    plain = flatten(load_pretrained(str(_save(tmp_path / "plain.safetensors", arrays())), *model()))
    file = _save(tmp_path / "w.safetensors", arrays(), prefix)
    capsys.readouterr()
    loaded = flatten(load_pretrained(str(file), *model()))
    assert loaded.keys() == plain.keys()
    assert all(np.array_equal(array, plain[name]) for name, array in loaded.items())
    assert capsys.readouterr().err.startswith(f"weights from {file}, names without '{prefix}':\n")


def test_array_without_the_prefix_of_the_others_is_refused(tmp_path):
    arrays = {name if name == "norm.bias" else f"model.{name}": array for name, array in timm_vit().items()}
    file = _save(tmp_path / "w.safetensors", arrays)
    words = ["Not in the file: 'params/Transformer/encoder_norm/bias' (8,). ", "Not in the model: 'norm.bias' (8,). "]
    refused(file, *tiny_vit(), *words)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefix_of_a_layout_that_is_read_is_named_first(tmp_path, prefix):
    file = _save(tmp_path / "w.safetensors", _resnet(), prefix)
    message = refused(file, *tiny_resnet())
    assert message == (
        f"{file} has 38 arrays with names of torchvision's ResNet after the prefix '{prefix}', which is not "
        f"supported; save each array as name.removeprefix('{prefix}')"
    )


def test_prefix_may_be_missing_from_some_arrays(tmp_path):
    arrays = _resnet()
    arrays = {name if name.startswith("fc") else f"backbone.{name}": array for name, array in arrays.items()}
    refused(_save(tmp_path / "w.safetensors", arrays), *tiny_resnet(), "ResNet after the prefix 'backbone.', which")


def test_prefix_of_an_archive_is_named(tmp_path):
    arrays = {f"model/{name}": array for name, array in tiny_arrays().items()}
    file = save_google(tmp_path / "w.npz", arrays)
    refused(file, *tiny_vit(), f"has {len(arrays)} arrays with names of Google's ViT after the prefix 'model/', which")


@pytest.mark.parametrize("prefix", ["", "model.", "backbone."])
def test_layout_that_is_not_read_is_named_first(tmp_path, prefix):
    file = _save(tmp_path / "w.safetensors", swin(), prefix)
    for model in (tiny_vit(), tiny_resnet()):
        message = refused(
            file, *model, "are not supported; allowed: Google's ViT, big_vision's ViT (.npz), torchvision's ResNet, ",
            "or a name that `animesion configs --weights` lists",
        )  # fmt: skip
        after = f" after the prefix '{prefix}'" if prefix else ""
        assert message.startswith(f"{file} has 32 arrays with names of timm's Swin Transformer{after}, ")
        assert len(message) - len(str(file)) < 450


def test_layout_of_another_ending_is_refused(tmp_path):
    refused(
        save_google(tmp_path / "w.npz", timm_vit()), *tiny_vit(), "has 32 arrays with names of timm's ViT, which are"
    )
    file = _save(tmp_path / "w.safetensors", tiny_arrays())
    refused(
        file, *tiny_vit(), "names of Google's ViT, which are not supported; allowed: Google's ViT, big_vision's ViT ("
    )


@pytest.mark.parametrize("layout", layouts.INSTEAD)
def test_layout_with_a_known_substitute_is_refused_with_it(tmp_path, layout):
    file = _save(tmp_path / "w.safetensors", {name: np.zeros(3, np.float32) for name in layouts.LAYOUTS[layout]})
    message = refused(file, *tiny_vit(), f"names of {layout}, which are not supported; ", "of the same ")
    assert message.endswith(f", or {layouts.INSTEAD[layout]}")


def test_prefix_of_an_unknown_layout_is_named_first(tmp_path):
    arrays = {f"net.{name}".replace("blocks", "layers"): array for name, array in timm_vit().items()}
    file = _save(tmp_path / "w.safetensors", arrays)
    message = refused(file, *tiny_vit(), "Not in the model: 'net.cls_token' (1, 1, 8); 'net.", " and 29 more. ")
    assert message.startswith(f"{file} has names that share the prefix 'net.' and does not fit this VisionTransformer")
    assert len(message) - len(str(file)) < 800


# Published names; each set is read off a model card or the library's source.
NAMES = {
    "timm's BEiT": ["blocks.0.attn.q_bias", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"],
    "timm's EVA02": ["blocks.0.attn.q_proj.weight", "blocks.0.mlp.fc1_g.weight", "patch_embed.proj.weight"],
    "timm's EVA or small EVA02": [
        "pos_embed",
        "blocks.0.attn.q_bias",
        "blocks.0.attn.v_bias",
        "blocks.0.attn.qkv.weight",
        "patch_embed.proj.weight",
    ],
    "timm's ConvNeXt": ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.fc.weight"],
    "transformers' ViT": [
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.encoder.layer.0.attention.attention.query.weight",
        "classifier.weight",
    ],
    "timm's ViT": ["blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "blocks.0.ls1.gamma", "mask_token"],
    "timm's ViT with a MAP head": [
        "attn_pool.latent",
        "attn_pool.kv.weight",
        "blocks.0.attn.qkv.weight",
        "patch_embed.proj.weight",
    ],
    "timm's EVA02-CLIP": [
        "blocks.0.attn.norm.weight",
        "blocks.0.attn.q_proj.weight",
        "blocks.0.mlp.fc1_g.weight",
        "patch_embed.proj.weight",
    ],
    "transformers' ViT (since 5.0)": [
        "vit.embeddings.patch_embeddings.projection.weight",
        "vit.layers.0.attention.q_proj.weight",
        "classifier.weight",
    ],
    "transformers' DINOv2": [
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.0.layer_scale1.lambda1",
    ],
    "transformers' BEiT": [
        "beit.embeddings.patch_embeddings.projection.weight",
        "beit.encoder.layer.0.attention.attention.query.weight",
        "beit.encoder.layer.0.lambda_1",
    ],
    "JAX-CV's ViT": ["model/params/patch_embed/Conv_0/kernel", "model/params/vit_body_0/Attention_0/qkv/kernel"],
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
    prefixes = {
        "transformers' ViT": "vit.", "transformers' ViT (since 5.0)": "vit.", "transformers' BEiT": "beit.",
        "big_vision's ViT": "params/img/", "Google's ViT": "params/", "JAX-CV's ViT": "model/params/",
    }  # fmt: skip
    prefix = prefixes.get(name, "")
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
        f"{file} is a training checkpoint; its entry ['{key}'] has 32 arrays with names of timm's ViT after the "
        f"prefix 'model.'; save it alone: torch.save(torch.load('{file}')['{key}'], 'weights.pth')"
    )


def test_every_layout_of_pytorch_has_a_translator():
    assert set(layouts.TORCH) == set(torch_files.TRANSLATORS)
