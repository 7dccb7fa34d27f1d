"""The tuned forms of the models' operations against the plain ones."""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.models import abstract_variables, create_model, init_variables, kernels, shallownet
from animesion_jax.models.kernels import attention
from animesion_jax.models.kernels.activation import gelu, gelu_recomputed, relu, relu_by_float32
from animesion_jax.models.kernels.attention import attend_fused, can_fuse, pad_tokens
from animesion_jax.models.kernels.convolution import convolve_by_products
from animesion_jax.models.kernels.positions import add_by_product
from tests.models.test_vit import TINY_VIT
from tests.published import random_images, relative_difference


@pytest.mark.parametrize("backend", ["gpu", "tpu", "unknown"])
def test_convolutions_are_products_on_cpus_only(backend, monkeypatch):
    model = create_model("resnet50", num_classes=3, image_size=32, stage_sizes=(1, 1, 1, 1))
    variables, images = abstract_variables(model, 32), jnp.zeros((1, 32, 32, 3))

    def count_convolutions():
        return str(jax.make_jaxpr(model.apply)(variables, images)).count(" conv_general_dilated[")

    assert count_convolutions() < 10
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    # The stem, four units of three convolutions and a projection each.
    assert count_convolutions() == 1 + 4 * 4


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding"),
    [
        # Images or results smaller than the kernel.
        *itertools.product([1, 4], [3], [1, 2], ["SAME", "half"]),
        (5, 7, 1, "SAME"), (5, 7, 2, "half"),
        # A kernel of one pixel; patches; patches that leave a remainder.
        (4, 1, 1, "SAME"), (5, 1, 2, "VALID"), (6, 3, 3, "VALID"), (7, 3, 3, "VALID"), (6, 2, 2, "half"),
    ],
)  # fmt: skip
def test_convolve_by_products_equals_xlas_convolution_and_gradients(side, size, stride, padding):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, side, side, 5)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 5, 4)).astype(np.float32)
    padding = [(size // 2, size // 2)] * 2 if padding == "half" else padding
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def loss(convolution, images, kernel):
        return (convolution(images, kernel, (stride, stride), padding, **options) ** 2).sum()

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *x, c=convolution: loss(c, *x), (0, 1)))(images, kernel)
        for convolution in (convolve_by_products, jax.lax.conv_general_dilated)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert relative_difference(a, b) <= 1e-5


def test_max_pool_by_places_keeps_its_gradient_in_unoptimized_programs(monkeypatch):
    """Unoptimized programs recompute the input of the pooling and round it otherwise. The side of 35 px is odd."""
    model = create_model("shallownet", num_classes=6, image_size=35)
    variables = init_variables(model, 35, 0)
    images = random_images(16, 35)

    def gradients():
        def loss(params):
            logits, _ = model.apply(
                {**variables, "params": params}, images, train=True, positions=jnp.arange(16),
                rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"],
            )  # fmt: skip
            return jnp.square(logits).sum()

        compiled = jax.jit(jax.grad(loss), compiler_options={"xla_backend_optimization_level": 0})
        return compiled(variables["params"])

    ours = gradients()
    monkeypatch.setattr(shallownet, "max_pool", lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(gradients()), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-3


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_max_pool_matches_numpy_and_leaves_out_the_odd_row(backend):
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = np.stack(
        [
            [[x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(3)] for i in range(2)]
            for b in range(2)
        ]
    )
    np.testing.assert_array_equal(kernels.FORMS["max_pool"][backend](jnp.asarray(x)), expected)


@pytest.mark.parametrize("tokens", [4, 5])
def test_attend_fused_on_padded_tokens_equals_float64_attention(tokens):
    """XLA computes it in cuDNN's place; the result and the gradients are compared with attention without padding."""
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(4, 2, tokens, 3, 8))

    def padded(query, key, value):
        even = [pad_tokens(each.reshape(2, tokens, 24)).reshape(2, -1, 3, 8) for each in (query, key, value)]
        assert even[0].shape[1] % 2 == 0
        return attend_fused(*even, tokens, implementation="xla")[:, :tokens]

    def plain(query, key, value):
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(8))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)

    def with_gradients(function, *arrays):
        result, backward = jax.vjp(function, *arrays[:3])
        return result, *backward(arrays[3])

    with jax.enable_x64(True):
        expected = jax.jit(with_gradients, static_argnums=0)(plain, *arrays)
    result = jax.jit(with_gradients, static_argnums=0)(padded, *np.float32(arrays))
    for seen, exact in zip(result, expected, strict=True):
        np.testing.assert_allclose(seen, exact, rtol=1e-5, atol=1e-6)


def test_can_fuse_is_false_without_a_card_and_in_float32(caplog):
    assert not can_fuse(17, 3, 8, jnp.float32) and not caplog.records
    assert not can_fuse(17, 3, 8, jnp.bfloat16) and "does not run here" in caplog.text


def test_vit_with_fused_attention_equals_vit_without(monkeypatch):
    """The backend claims to be a GPU, and XLA computes in cuDNN's place. The 5 tokens are padded to 6."""
    model = create_model("vit_ti16", num_classes=7, image_size=32, dtype="bfloat16", dropout_rate=0.0, **TINY_VIT)
    variables, images = init_variables(model, 32, 0), random_images(2, 32)

    def features():
        _, seen = jax.jit(
            lambda v, x: model.apply(v, x, train=True, capture_intermediates=lambda m, _: m.name == "encoder_norm")
        )(variables, images)
        return np.float32(seen["intermediates"]["Transformer"]["encoder_norm"]["__call__"][0])

    plain = features()
    by_xla = partial(attend_fused, implementation="xla")
    calls = []
    monkeypatch.setattr(attention, "attend_fused", lambda *a, **k: calls.append(a[0].shape[1]) or by_xla(*a, **k))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fused = features()
    assert set(calls) == {6}
    np.testing.assert_allclose(fused, plain, atol=0.06)  # numbers of about 1, with 8 bits each


def test_add_by_product_has_the_sum_over_the_batch_as_its_gradient():
    rng = np.random.default_rng(0)
    tokens, table, gradient = rng.normal(size=(7, 3, 4)), rng.normal(size=(1, 3, 4)), rng.normal(size=(7, 3, 4))
    result, backward = jax.vjp(add_by_product, np.float32(tokens), np.float32(table))
    np.testing.assert_allclose(result, tokens + table, rtol=1e-5, atol=1e-6)
    to_tokens, to_table = backward(np.float32(gradient))
    np.testing.assert_allclose(to_tokens, gradient, rtol=1e-6)
    np.testing.assert_allclose(to_table, gradient.sum(0, keepdims=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_recomputed_saves_its_input_only(approximate):
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    plain, recomputed = (partial(form, approximate=approximate, train=True) for form in (gelu, gelu_recomputed))
    np.testing.assert_array_equal(recomputed(x), plain(x))
    gradient, expected = (jax.grad(lambda x, form=form: form(x).sum())(x) for form in (recomputed, plain))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert [leaf.shape for leaf in jax.tree.leaves(jax.vjp(recomputed, x)[1])] == [x.shape]


def _relu_twice_and_sum(form):
    """Returns the sums over the images that `form` gives, and those of NumPy."""
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 64)).astype(jnp.bfloat16)
    sums = jax.jit(lambda x: form(form(x) + 1).astype(jnp.float32).sum((1, 2)))(x)
    return np.asarray(sums), (np.maximum(np.float32(x), 0) + 1).sum((1, 2))


def test_relu_by_float32_is_right_in_bfloat16_before_a_reduction():
    np.testing.assert_allclose(*_relu_twice_and_sum(relu_by_float32), rtol=0.01)


def test_xla_miscomputes_bfloat16_maxima_that_share_a_constant():
    """The smallest program with the fault behind `relu_by_float32`. Delete that form when no release has the fault."""
    if jax.version.__version_info__ < (0, 11):
        np.testing.assert_allclose(*_relu_twice_and_sum(relu), rtol=0.01)
    elif np.allclose(*_relu_twice_and_sum(relu), rtol=0.01):
        pytest.skip(f"jax {jax.__version__} computes the plain ReLU correctly here: is relu_by_float32 still needed?")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_relu_by_float32_equals_relu_and_its_gradient(dtype):
    x = jnp.asarray([-2.5, -0.0, 0.0, 1e-30, 3.14159, jnp.inf], dtype)

    def with_gradient(form):
        result, backward = jax.vjp(form, x)
        return result, *backward(jnp.full_like(x, 0.7))

    for seen, expected in zip(with_gradient(relu_by_float32), with_gradient(relu), strict=True):
        assert seen.dtype == x.dtype
        np.testing.assert_array_equal(np.float32(seen), np.float32(expected))
