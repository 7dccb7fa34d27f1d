"""timm's ViTs and DINOv2's own files: logits by the formulas in float64, and the fate of every array."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.pretrained import load_pretrained, timm_vit
from tests import float64_vit
from tests.pretrained.tiny import flatten, refused, tiny_arrays, tiny_vit
from tests.published import random_images, relative_difference
from tests.torch_vits import timm_arrays

POSITIONS = "Transformer/posembed_input/pos_embedding"
SIZE = {"hidden_size": 24, "num_heads": 3, "mlp_dim": 40}


def _save(path, arrays):
    safetensors.numpy.save_file(arrays, path)
    return str(path)


def _registers():
    return 0.02 * np.random.default_rng(1).standard_normal((1, 4, 24), np.float32)


def _scales(layers=2, width=24):
    """Returns timm's arrays of LayerScale, which differ for each layer and output."""
    rng = np.random.default_rng(2)
    return {
        f"blocks.{layer}.ls{place}.gamma": rng.uniform(0.1, 1, width).astype(np.float32)
        for layer in range(layers)
        for place in (1, 2)
    }


def _scaled(google, scales):
    """Returns Google's arrays with the outputs of attention and MLP times LayerScale."""
    google = dict(google)
    for name, gamma in scales.items():
        layer, module = name.split(".")[1], {"1": "MultiHeadDotProductAttention_1/out", "2": "MlpBlock_3/Dense_1"}
        block = f"Transformer/encoderblock_{layer}/{module[name[-7]]}"
        for leaf in ("kernel", "bias"):
            google[f"{block}/{leaf}"] = google[f"{block}/{leaf}"] * np.float64(gamma)
    return google


def _logits(file, options, images):
    model, variables = tiny_vit(image_size=64, num_classes=7, **SIZE, **options)
    return jax.jit(model.apply)(load_pretrained(file, model, variables, keep_head=True), images)


@pytest.mark.parametrize("prefix", ["", "module.model.", "_orig_mod."])
def test_plain_vit_equals_the_paper_in_float64(prefix, tmp_path):
    google, images = tiny_arrays(**SIZE), random_images(2, 64)
    file = _save(tmp_path / "w.safetensors", {prefix + name: each for name, each in timm_arrays(google).items()})
    actual = _logits(file, {"gelu": "erf"}, images)
    assert relative_difference(actual, float64_vit.forward(google, images, "erf")) <= 1e-5


@pytest.mark.parametrize("names", ["timm", "dinov2"])
def test_layer_scale_and_registers_equal_the_formulas_in_float64(names, tmp_path, capsys):
    """timm's class token has no position where there are registers, that of DINOv2's own files has one."""
    google, scales, images = (
        tiny_arrays(**SIZE) | {"Transformer/registers": _registers()},
        _scales(),
        random_images(2, 64),
    )
    arrays = timm_arrays(google) | scales
    if names == "timm":
        google[POSITIONS][:, 0] = 0
        arrays["pos_embed"] = arrays["pos_embed"][:, 1:]
    else:
        arrays["register_tokens"] = arrays.pop("reg_token")
        arrays["mask_token"] = np.ones((1, 24), np.float32)
    actual = _logits(_save(tmp_path / "w.safetensors", arrays), {"registers": 4}, images)
    assert relative_difference(actual, float64_vit.forward(_scaled(google, scales), images)) <= 1e-5
    lines = capsys.readouterr().err.splitlines()
    assert "  blocks.*.ls1.gamma               2           48  folded into attn.proj" in lines
    assert "  blocks.*.ls2.gamma               2           48  folded into mlp.fc2" in lines
    left_out = "  mask_token                       1           24  left out: only the training without labels needs it"
    assert (left_out in lines) == (names == "dinov2")


@pytest.mark.parametrize("token", [False, True])
def test_mean_pooling_before_the_norm_equals_the_formulas_in_float64(token, tmp_path):
    google, images = tiny_arrays(token=token, **SIZE), random_images(2, 64)
    for leaf in ("scale", "bias"):
        google[f"fc_norm/{leaf}"] = google.pop(f"Transformer/encoder_norm/{leaf}")
    file = _save(tmp_path / "w.safetensors", timm_arrays(google))
    options = {"pool": "mean", "class_token": token, "fc_norm": True}
    assert relative_difference(_logits(file, options, images), float64_vit.forward(google, images)) <= 1e-5


def test_mean_pooling_after_the_norm_equals_the_formulas_in_float64(tmp_path):
    google, images = tiny_arrays(token=False, **SIZE), random_images(2, 64)
    file = _save(tmp_path / "w.safetensors", timm_arrays(google))
    assert relative_difference(_logits(file, {"pool": "mean"}, images), float64_vit.forward(google, images)) <= 1e-5


def test_timm_names_return_the_same_variables(tmp_path):
    """The position of the class token moves into the token, which gets one of zeros."""
    google = tiny_arrays(num_classes=5) | {"Transformer/registers": np.ones((1, 4, 8), np.float32)}
    model, variables = tiny_vit(registers=4)
    file = _save(tmp_path / "a.safetensors", timm_arrays(google))
    first = load_pretrained(file, model, variables, keep_head=True)
    arrays = timm_vit.to_timm(first)
    assert arrays["pos_embed"].shape == (1, 16, 8) and arrays["reg_token"].shape == (1, 4, 8)
    again = load_pretrained(_save(tmp_path / "b.safetensors", arrays), model, variables, keep_head=True)
    changed = {name for name, array in flatten(first).items() if not np.array_equal(array, flatten(again)[name])}
    assert changed == {"cls", POSITIONS}
    np.testing.assert_array_equal(again["params"]["cls"][0, 0], google["cls"][0, 0] + google[POSITIONS][0, 0])
    assert not flatten(again)[POSITIONS][:, 0].any()


def test_half_precision_is_scaled_in_double_precision(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in (timm_arrays(tiny_arrays()) | _scales(width=8)).items()}
    loaded = flatten(load_pretrained(_save(tmp_path / "w.safetensors", arrays), *tiny_vit()))
    expected = np.float64(arrays["blocks.0.mlp.fc2.bias"]) * arrays["blocks.0.ls2.gamma"]
    actual = loaded["Transformer/encoderblock_0/MlpBlock_0/Dense_1/bias"]
    np.testing.assert_array_equal(actual, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("blocks.0.ls1.gamma", np.ones(3), "Not in the model: 'blocks.0.ls1.gamma' (3,). "),
        ("blocks.0.ls1.gamma", np.ones((8, 1)), "Not in the model: 'blocks.0.ls1.gamma' (8, 1). "),
        ("blocks.0.ls1.gamma", np.ones(8, np.int32), "'blocks.0.ls1.gamma' (8,) is int32, not float32"),
        ("blocks.0.ls1.gamma", np.full(8, np.nan), "'blocks.0.ls1.gamma' (8,) has values that are not finite"),
        ("blocks.9.ls1.gamma", np.ones(8), "Not in the model: 'blocks.9.ls1.gamma' (8,). "),
        ("blocks.0.attn.qkv.weight", np.zeros((25, 8)), "Not in the model: 'blocks.0.attn.qkv.weight' (8, 25). "),
        ("blocks.0.attn.qkv.bias", np.zeros((3, 8)), "Not in the model: 'blocks.0.attn.qkv.bias' (3, 8). "),
        ("blocks.0.attn.q_norm.weight", np.zeros(4), "Not in the model: 'blocks.0.attn.q_norm.weight' (4,). "),
        ("blocks.0.attn.qkv.bias", np.zeros(24, np.int8), "'blocks.0.attn.qkv.bias' (24,) is int8"),
        ("blocks.0.attn.q_norm.weight", np.zeros(4), "Not in the model: 'blocks.0.attn.q_norm.weight' (4,). "),
        ("pos_embed", np.zeros((1, 15, 8)), "15 tokens to 17: 14 patches do not form a square"),
        ("register_tokens", np.zeros((1, 4, 8)), "has registers=4, the model registers=0; set --config"),
    ],
)  # fmt: skip
def test_array_that_does_not_fit_is_refused_by_its_name(name, array, words, tmp_path):
    array = array.astype(np.float32) if array.dtype == np.float64 else array
    refused(_save(tmp_path / "w.safetensors", timm_arrays(tiny_arrays()) | {name: array}), *tiny_vit(), words)
