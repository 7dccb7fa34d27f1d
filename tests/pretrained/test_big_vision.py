"""big_vision's archives: logits by the paper in float64; parts that our ViTs lack are refused by name."""

import math

import jax
import numpy as np
import pytest

from animesion_jax.pretrained import load_pretrained
from tests import float64_vit
from tests.pretrained.tiny import flatten, refused, tiny_arrays, tiny_vit
from tests.published import big_vision_arrays, random_images, relative_difference, save_google

SIZE = {"hidden_size": 24, "num_heads": 3, "mlp_dim": 40}
POSITIONS = "Transformer/posembed_input/pos_embedding"


def _arrays(token=True, prefix="params/img/", stacked=False, **size):
    return big_vision_arrays(tiny_arrays(names="linen", token=token, **size), prefix=prefix, stacked=stacked)


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize(("prefix", "stacked"), [("", False), ("params/", True), ("params/img/", True)])
def test_big_vision_vit_equals_the_paper_in_float64(token, prefix, stacked, tmp_path):
    google, images = tiny_arrays(token=token, **SIZE), random_images(2, 64)
    if token:
        google[POSITIONS][:, 0] = 0
    file = save_google(tmp_path / "w.npz", _arrays(token, prefix, stacked, **SIZE))
    model, variables = tiny_vit(num_classes=7, pool="token" if token else "mean", **SIZE)
    actual = jax.jit(model.apply)(load_pretrained(file, model, variables, keep_head=True), images)
    assert relative_difference(actual, float64_vit.forward(google, images)) <= 1e-5


@pytest.mark.parametrize("prefix", ["", "params/"])
def test_tower_without_a_table_has_sines_and_cosines(prefix, tmp_path, capsys):
    google, images = tiny_arrays(224, token=False, **SIZE), random_images(1, 224)
    table = [
        [
            wave(place * 10_000 ** (-index / 5))
            for place in (x, y)
            for wave in (math.sin, math.cos)
            for index in range(6)
        ]
        for y in range(14)
        for x in range(14)
    ]
    google[POSITIONS] = np.array([table], np.float32)
    arrays = _arrays(False, prefix, image_size=224, **SIZE)
    file = save_google(tmp_path / "w.npz", {name: each for name, each in arrays.items() if "pos_emb" not in name})
    model, variables = tiny_vit(image_size=224, num_classes=7, pool="mean", **SIZE)
    actual = jax.jit(model.apply)(load_pretrained(file, model, variables, keep_head=True), images)
    assert relative_difference(actual, float64_vit.forward(google, images)) <= 1e-5
    assert "loaded, computed, because the file has no table" in capsys.readouterr().err
    refused(file, *tiny_vit(image_size=224, **SIZE), "has pool='mean'", "--config.vit.pool=mean")
    arrays = _arrays(True, prefix, **SIZE)
    del arrays[f"{prefix}pos_embedding"]  # A class token goes with a table.
    refused(save_google(tmp_path / "t.npz", arrays), *tiny_vit(**SIZE), f"Not in the file: 'params/{POSITIONS}'")


def test_positions_of_another_grid_are_resampled_like_googles(tmp_path):
    """As in big_vision's own code."""
    file = save_google(tmp_path / "w.npz", _arrays(token=False))
    google = save_google(tmp_path / "google.npz", tiny_arrays(token=False))
    model = tiny_vit(image_size=96, pool="mean")
    loaded, expected = (flatten(load_pretrained(each, *model))[POSITIONS] for each in (file, google))
    assert expected.shape == (1, 36, 8)
    np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["params/img/MAPHead_0/probe"], "with a MAP head ('params/img/MAPHead_0/probe'), which are not supported; "),
        (["params/t", "params/b"], "with a text tower ('params/t'), which are"),
        (
            ["params/txt/Embed_0/embedding", "params/img/MAPHead_0/probe", "params/b"],
            "with a MAP head ('params/img/MAPHead_0/probe') and a text tower ('params/txt/Embed_0/embedding'), which",
        ),
    ],
)
def test_parts_that_our_vits_lack_are_refused_by_name(names, words, tmp_path):
    arrays = _arrays() | dict.fromkeys(names, np.zeros((1, 1, 8), np.float32))
    file = save_google(tmp_path / "w.npz", arrays)
    refused(file, *tiny_vit(), words, "give timm's file of an image tower", "timm/vit_base_patch16_siglip_gap_224")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((10**9, 0), "(1000000000, 0) has no axis of layers; allowed: at most 128 layers"),
        ((), "() has no axis of layers"),
        ((3, 8), "holds a ViT of patch 16, stem (), {'hidden_size': 8, 'num_layers': 3, "),
        ((2, 9), "'params/img/Transformer/encoderblock/LayerNorm_0/scale' (9,) for (8,)"),
    ],
)
def test_stacked_layers_that_do_not_fit_are_refused_by_name(shape, words, tmp_path):
    arrays = _arrays(stacked=True)
    arrays["params/img/Transformer/encoderblock/LayerNorm_0/scale"] = np.zeros(shape, np.float32)
    refused(save_google(tmp_path / "w.npz", arrays), *tiny_vit(), words)
