"""Vision Transformers against the paper in float64, and where they drop activations."""

from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.models.hybrid import StdConv
from animesion_jax.pretrained import load_pretrained
from tests import float64_vit
from tests.published import google_arrays, random_images, relative_difference, save_google

TINY_VIT = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_dim": 40}


@pytest.mark.parametrize(
    ("image_size", "options"),
    [
        (64, {}),
        (64, {"gelu": "erf"}),
        (96, {"pre_logits": True}),
        (32, {"pool": "mean"}),
    ],
)
def test_vit_logits_equal_the_paper_in_float64(image_size, options, tmp_path):
    """The file is in the published layout, for 64 px; at other sizes its position embeddings are resampled."""
    token, pre_logits = options.get("pool") != "mean", "pre_logits" in options
    arrays = google_arrays("vit_ti16", 5, 64, pre_logits=pre_logits, token=token, **TINY_VIT)
    file = save_google(tmp_path / "tiny.npz", arrays)
    model = create_model("vit_ti16", num_classes=5, image_size=image_size, **options, **TINY_VIT)
    variables = load_pretrained(file, model, abstract_variables(model, image_size), keep_head=True)
    images = random_images(2, image_size)
    expected = float64_vit.forward(arrays, images, options.get("gelu", "tanh"))
    assert relative_difference(jax.jit(model.apply)(variables, images), expected) <= 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"registers": 4, "epsilon": 1e-12},
        {"pool": "mean", "fc_norm": True, "epsilon": 1e-5},
        {"pool": "mean", "registers": 4},
        {"pool": "mean", "class_token": True, "fc_norm": True, "registers": 4},
    ],
)
def test_vit_options_equal_their_formulas_in_float64(options, tmp_path):
    token = options.get("class_token", options.get("pool") != "mean")
    arrays = google_arrays("vit_ti16", 5, 48, token=token, **TINY_VIT)
    rng = np.random.default_rng(1)
    if "registers" in options:
        # As large as the patches, so that the place of a register shows.
        arrays["Transformer/registers"] = 0.02 * rng.standard_normal((1, 4, 24), np.float32)
    if "fc_norm" in options:
        for leaf in ("scale", "bias"):
            arrays[f"fc_norm/{leaf}"] = arrays.pop(f"Transformer/encoder_norm/{leaf}")
    model = create_model("vit_ti16", num_classes=5, image_size=48, **options, **TINY_VIT)
    file = save_google(tmp_path / "tiny.npz", arrays)
    variables = load_pretrained(file, model, abstract_variables(model, 48), keep_head=True)
    images = random_images(2, 48)
    epsilon = options.get("epsilon", 1e-6)
    expected = float64_vit.forward(arrays, images, epsilon=epsilon)
    # The logits of another epsilon differ by more than the tolerance.
    assert relative_difference(float64_vit.forward(arrays, images, epsilon=epsilon * 10 + 1e-6), expected) > 1e-4
    assert relative_difference(jax.jit(model.apply)(variables, images), expected) <= 1e-5


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        # Position embeddings of 5 x 24 values; in each of 2 layers the output of attention and both layers of the MLP.
        ("google", {(5, 24): 1 + 2 * 2, (5, 40): 2}),
        # In each of 2 layers the attention weights of 3 heads, and the outputs of attention and of the MLP.
        ("animesion", {(3, 5, 5): 2, (5, 24): 2 * 2}),
    ],
)
def test_dropout_places_match_googles_and_animesions_code(places, expected):
    model = create_model("vit_ti16", num_classes=5, image_size=32, dropout_places=places, **TINY_VIT)
    variables, images = abstract_variables(model, 32), jnp.zeros((2, 32, 32, 3))

    drawn = Counter()

    def count(method, arguments, options, context):
        result = method(*arguments, **options)
        if context.method_name == "draw_mask":
            drawn[result.shape[1:]] += 1
        return result

    with nn.intercept_methods(count):
        jax.eval_shape(
            lambda v, key: model.apply(v, images, train=True, rngs={"dropout": key}), variables, jax.random.key(0)
        )
    assert drawn == expected


def test_dropout_places_animesion_drops_attention_weights_after_the_softmax(tmp_path):
    arrays = google_arrays("vit_ti16", 5, 32, **TINY_VIT)
    file = save_google(tmp_path / "tiny.npz", arrays)
    options = {"dropout_places": "animesion", "dropout_rate": 0.4, **TINY_VIT}
    model = create_model("vit_ti16", num_classes=5, image_size=32, **options)
    variables = load_pretrained(file, model, abstract_variables(model, 32), keep_head=True)
    images = random_images(2, 32)
    training = {"train": True, "rngs": {"dropout": jax.random.key(0)}}
    captured = {"capture_intermediates": lambda module, _: module.name == "attention_weights_dropout"}
    _, seen = jax.jit(lambda v, x: model.apply(v, x, **training, **captured))(variables, images)
    layer = seen["intermediates"]["Transformer"]["encoderblock_0"]
    dropped = np.asarray(layer["attention_weights_dropout"]["__call__"][0])
    weights = float64_vit.attention_weights(arrays, images)[0]
    kept = dropped != 0
    assert 0.4 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped, np.where(kept, weights / 0.6, 0), rtol=1e-4, atol=1e-6)
    # A rate at which nothing is dropped gives the logits of evaluation.
    options["dropout_rate"] = 1e-9
    same = create_model("vit_ti16", num_classes=5, image_size=32, **options)
    trained = jax.jit(lambda v, x: same.apply(v, x, **training))(variables, images)
    np.testing.assert_allclose(trained, jax.jit(model.apply)(variables, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("std", [1e-4, 0.03])
def test_std_conv_standardises_with_googles_epsilon(std):
    rng = np.random.default_rng(0)
    kernel = rng.normal(std, std, (1, 1, 40, 6)).astype(np.float32)
    images = rng.normal(size=(2, 3, 3, 40)).astype(np.float32)
    exact = np.float64(kernel)[0, 0]
    exact = (exact - exact.mean(0)) / (exact.std(0) + 1e-5)
    actual = StdConv(6, 1).apply({"params": {"kernel": kernel}}, images)
    assert relative_difference(actual, images @ exact) <= 1e-5
