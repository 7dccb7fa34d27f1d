import itertools
from collections import Counter
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.models import MODELS, abstract_variables, create_model, init_variables, vit
from animesion_jax.models.dropout import Dropout
from animesion_jax.models.hybrid import StdConv
from animesion_jax.models.kernels import attention
from animesion_jax.models.kernels.attention import attend_fused, is_fused, pad_tokens
from animesion_jax.models.kernels.convolution import convolve
from animesion_jax.models.vit import add_to_each
from animesion_jax.pretrained import load_pretrained
from tests import float64_vit
from tests.published import google_arrays, random_images, relative_difference, save_google

# Parameters at 1,000 classes and 224 px. ViT-B, L, H: torchvision's documentation (vit_b_16 ... vit_h_14); Ti/16 and
# S/16: DeiT; S/32: timm. ResNets: torchvision's documentation; hybrids: google-research/vision_transformer, vit_jax/
# models_test.py. ShallowNet: 5*5*3*16+16 + 2*16 + 5*5*16*32+32 + 2*32 + 53*53*32*512+512 + 512*1000+1000.
PARAMETERS = {
    "shallownet": 46_550_312,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vit_ti16": 5_717_416,
    "vit_s16": 22_050_664,
    "vit_s32": 22_878_952,
    "vit_b16": 86_567_656,
    "vit_b32": 88_224_232,
    "vit_l16": 304_326_632,
    "vit_l32": 306_535_400,
    "vit_h14": 632_045_800,
    "r26_vit_b32": 101_383_976,
    "r50_vit_b16": 98_659_112,
    "r50_vit_l32": 328_994_856,
}


def test_every_model_has_a_published_count():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameter_count(name):
    model = create_model(name, num_classes=1000, image_size=224)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


TINY_VIT = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_dim": 40}


@pytest.mark.parametrize(
    ("image_size", "options"),
    [
        (64, {}),
        (64, {"pool": "mean"}),
        (64, {"pre_logits": True}),
        (64, {"gelu": "erf"}),
        (96, {}),
        (32, {"pool": "mean"}),
    ],
)
def test_vit_computes_the_paper_in_float64(image_size, options, tmp_path):
    """A file of 64 px, in the published layout, at its own size and with its position embeddings resampled."""
    token, pre_logits = options.get("pool") != "mean", "pre_logits" in options
    arrays = google_arrays("vit_ti16", 5, 64, pre_logits=pre_logits, token=token, **TINY_VIT)
    file = save_google(tmp_path / "tiny.npz", arrays)
    model = create_model("vit_ti16", num_classes=5, image_size=image_size, **options, **TINY_VIT)
    variables = load_pretrained(file, model, abstract_variables(model, image_size), keep_head=True)
    images = random_images(2, image_size)
    expected = float64_vit.forward(arrays, images, options.get("gelu", "tanh"))
    assert relative_difference(jax.jit(model.apply)(variables, images), expected) <= 1e-5


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        # 5 tokens of 24 values after the positions; in each of 2 layers attention's output and the MLP's two layers.
        ("google", {(5, 24): 1 + 2 * 2, (5, 40): 2}),
        # In each layer the attention weights of 3 heads, attention's output and the MLP's.
        ("animesion", {(3, 5, 5): 2, (5, 24): 2 * 2}),
    ],
)
def test_dropout_is_where_each_code_has_it(places, expected):
    model = create_model("vit_ti16", num_classes=5, image_size=32, dropout_places=places, **TINY_VIT)
    variables, images = abstract_variables(model, 32), jnp.zeros((2, 32, 32, 3))

    drawn = Counter()

    def count(method, arguments, options, context):
        result = method(*arguments, **options)
        if context.method_name == "draw_kept" and result is not None:
            drawn[result.shape[1:]] += 1
        return result

    with nn.intercept_methods(count):
        jax.eval_shape(
            lambda v, key: model.apply(v, images, train=True, rngs={"dropout": key}), variables, jax.random.key(0)
        )
    assert drawn == expected


def test_animesion_drops_attention_weights_after_the_softmax(tmp_path):
    arrays = google_arrays("vit_ti16", 5, 32, **TINY_VIT)
    file = save_google(tmp_path / "tiny.npz", arrays)
    options = {"dropout_places": "animesion", "dropout_rate": 0.4, **TINY_VIT}
    model = create_model("vit_ti16", num_classes=5, image_size=32, **options)
    variables = load_pretrained(file, model, abstract_variables(model, 32), keep_head=True)
    images = random_images(2, 32)
    _, seen = model.apply(
        variables, images, train=True, rngs={"dropout": jax.random.key(0)},
        capture_intermediates=lambda module, _: module.name == "attention_weights_dropout",
    )  # fmt: skip
    layer = seen["intermediates"]["Transformer"]["encoderblock_0"]
    dropped = np.asarray(layer["attention_weights_dropout"]["__call__"][0])
    weights = float64_vit.attention_weights(arrays, images)[0]
    kept = dropped != 0
    assert 0.4 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped, np.where(kept, weights / 0.6, 0), rtol=1e-4, atol=1e-6)
    # A rate so small that nothing is dropped leaves the forward of evaluation.
    options["dropout_rate"] = 1e-9
    same = create_model("vit_ti16", num_classes=5, image_size=32, **options)
    trained = same.apply(variables, images, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_allclose(trained, model.apply(variables, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding"),
    [
        # Smaller than the kernel, or their results are.
        *itertools.product([1, 2, 4], [3], [1, 2], ["SAME", "half"]),
        *((5, 7, stride, padding) for stride, padding in itertools.product([1, 2], ["SAME", "half"])),
        # A kernel of one pixel; patches; patches that leave a rest.
        (4, 1, 1, "SAME"), (5, 1, 2, "VALID"), (6, 3, 3, "VALID"), (7, 3, 3, "VALID"), (6, 2, 2, "half"),
    ],
)  # fmt: skip
def test_matrix_products_convolve_alike(side, size, stride, padding):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, side, side, 5)).astype(np.float32)
    kernel = rng.normal(size=(size, size, 5, 4)).astype(np.float32)
    padding = [(size // 2, size // 2)] * 2 if padding == "half" else padding
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def loss(convolution, images, kernel):
        return (convolution(images, kernel, (stride, stride), padding, **options) ** 2).sum()

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda *x, c=convolution: loss(c, *x), (0, 1)))(images, kernel)
        for convolution in (convolve, jax.lax.conv_general_dilated)
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert relative_difference(a, b) <= 1e-5


@pytest.mark.parametrize("std", [1e-4, 0.03])
def test_kernels_are_standardised_with_googles_epsilon(std):
    rng = np.random.default_rng(0)
    kernel = rng.normal(std, std, (1, 1, 40, 6)).astype(np.float32)
    images = rng.normal(size=(2, 3, 3, 40)).astype(np.float32)
    exact = np.float64(kernel)[0, 0]
    exact = (exact - exact.mean(0)) / (exact.std(0) + 1e-5)
    actual = StdConv(6, 1).apply({"params": {"kernel": kernel}}, images)
    assert relative_difference(actual, images @ exact) <= 1e-5


def test_the_gradient_of_pooling_does_not_hang_on_how_the_compiler_rounds(monkeypatch):
    """Unoptimized programs compute what is pooled anew, and round it otherwise; an odd row and column come with it."""
    from animesion_jax.models import shallownet

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
    monkeypatch.setattr(shallownet, "max_pool", lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(gradients()), strict=True):
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b) + 1e-3


def test_shallownet_pooling_leaves_out_the_odd_row_and_matches_numpy():
    from animesion_jax.models.shallownet import max_pool

    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    expected = np.stack(
        [
            [[x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(3)] for i in range(2)]
            for b in range(2)
        ]
    )
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), expected)


HALF_PRECISION = {
    "shallownet": {},
    "resnet18": {"stage_sizes": (1, 1)},
    "vit_ti16": TINY_VIT,
    "r26_vit_b32": {"stem_sizes": (1,), **TINY_VIT},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("r26")) for name in HALF_PRECISION]
)
def test_bfloat16_keeps_float32_variables_and_logits(name):
    full, half = (
        create_model(name, num_classes=7, image_size=32, dtype=dtype, **HALF_PRECISION[name])
        for dtype in ("float32", "bfloat16")
    )
    variables = jax.tree.map(lambda leaf: leaf + 0.01, init_variables(half, 32, 0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    logits = jax.jit(half.apply)(variables, images)
    assert logits.dtype == jnp.float32
    expected = np.asarray(jax.jit(full.apply)(variables, images))
    assert not np.array_equal(logits, expected)
    # bfloat16 has 8 bits of mantissa: a per cent or two after a few layers.
    np.testing.assert_allclose(logits, expected, atol=0.03 * np.abs(expected).max())


def test_bfloat16_training_keeps_batch_statistics_in_float32():
    model = create_model("resnet18", num_classes=7, image_size=32, dtype="bfloat16", stage_sizes=(1, 1))
    variables = init_variables(model, 32, 0)
    forward = jax.jit(lambda images: model.apply(variables, images, train=True, mutable=["batch_stats"]))
    logits, updated = forward(random_images(4, 32))
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    # An update rounded to bfloat16 would leave the variance with 8 bits.
    variance = np.asarray(updated["batch_stats"]["bn1"]["var"])
    assert not np.array_equal(variance, variance.astype(jnp.bfloat16).astype(np.float32))


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "eqns"):
                yield from _equations(value)


@pytest.mark.parametrize("name", ["vit_ti16", "r26_vit_b32"])
def test_bfloat16_attention_takes_its_softmax_in_float32(name):
    model = create_model(name, num_classes=7, image_size=32, dtype="bfloat16", **HALF_PRECISION[name])
    jaxpr = jax.make_jaxpr(model.apply)(abstract_variables(model, 32), jnp.zeros((1, 32, 32, 3)))
    dtypes = [equation.invars[0].aval.dtype for equation in _equations(jaxpr.jaxpr) if equation.primitive.name == "exp"]
    assert dtypes == [jnp.float32] * 2  # one a layer: GELU and the classifier have none


def test_dropout_depends_on_the_place_in_the_global_batch_only():
    x, rngs = jnp.ones((6, 500)), {"dropout": jax.random.key(0)}
    whole = Dropout(0.2).apply({}, x, True, jnp.arange(6), rngs=rngs)
    part = Dropout(0.2).apply({}, x[2:4], True, jnp.arange(2, 4), rngs=rngs)
    np.testing.assert_array_equal(part, whole[2:4])
    assert not np.array_equal(whole[0], whole[1])
    assert abs(float((whole == 0).mean()) - 0.2) < 0.03
    np.testing.assert_array_equal(np.unique(whole), np.float32([0, 1.25]))
    np.testing.assert_array_equal(Dropout(0.2).apply({}, x, False), x)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.2, 0.5, 0.999])
def test_dropout_has_exactly_its_rate(rate):
    """Also between two 256ths: within 4.5 standard deviations of the binomial distribution, 1 in 150,000."""
    kept = Dropout(rate).apply(
        {}, (2000, 7, 143), True, jnp.arange(2000), rngs={"dropout": jax.random.key(1)}, method="draw_kept"
    )
    # Each example has a rate of its own, one of two neighbouring 256ths, which adds to the variance.
    below = np.floor(256 * rate) / 256
    between = (rate - below) * (below + 1 / 256 - rate)
    deviation = np.sqrt((rate * (1 - rate) / 1001 + between) / 2000)
    assert abs(float(1 - kept.mean()) - rate) < 4.5 * deviation
    # Neither neighbours along any axis, nor activations whose bytes are of one word share their fate.
    gone = ~np.asarray(kept)
    pairs = [
        (gone[:-1], gone[1:]),
        (gone[:, :-1], gone[:, 1:]),
        (gone[:, :-2], gone[:, 2:]),
        (gone[..., :-1], gone[..., 1:]),
    ]
    for one, other in pairs:
        assert abs((one & other).mean() - rate**2) < 4.5 * rate / np.sqrt(one.size) + 1e-5


@pytest.mark.parametrize("tokens", [4, 5])
def test_padded_attention_is_attention(tokens):
    """What is handed to cuDNN, handed to XLA: result and gradients are those of float64 attention without padding."""
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(4, 2, tokens, 3, 8))

    def padded(query, key, value):
        even = [pad_tokens(each.reshape(2, tokens, 24)).reshape(2, -1, 3, 8) for each in (query, key, value)]
        assert even[0].shape[1] % 2 == 0
        return attend_fused(*even, tokens, implementation="xla")[:, :tokens]

    def plain(query, key, value):
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(8))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)

    with jax.enable_x64(True):
        expected, backward = jax.vjp(plain, *arrays[:3])
        expected = expected, *backward(arrays[3])
    result, backward = jax.vjp(padded, *np.float32(arrays[:3]))
    for seen, exact in zip((result, *backward(np.float32(arrays[3]))), expected, strict=True):
        np.testing.assert_allclose(seen, exact, rtol=1e-5, atol=1e-6)


def test_attention_without_a_card_that_can_is_not_fused(monkeypatch):
    """On a GPU the kernels are tried; here they cannot run, and are not taken."""
    assert not is_fused(17, 3, 8, jnp.bfloat16)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not is_fused(17, 3, 8, jnp.float32)
    assert not is_fused(17, 3, 8, jnp.bfloat16)


def test_a_layer_with_fused_attention_is_the_layer_without(monkeypatch):
    """On what calls itself a GPU, XLA in cuDNN's place: 5 tokens are padded, the kernels tried within the trace."""
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
    for module in (attention, vit):
        monkeypatch.setattr(module, "attend_fused", lambda *a, **k: calls.append(a[0].shape[1]) or by_xla(*a, **k))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    fused = features()
    assert set(calls) == {6}
    np.testing.assert_allclose(fused, plain, atol=0.06)  # numbers of about 1, with 8 bits each


def test_the_gradient_of_the_positions_is_the_sum_over_the_batch():
    rng = np.random.default_rng(0)
    tokens, table, gradient = rng.normal(size=(7, 3, 4)), rng.normal(size=(1, 3, 4)), rng.normal(size=(7, 3, 4))
    result, backward = jax.vjp(add_to_each, np.float32(tokens), np.float32(table))
    np.testing.assert_allclose(result, tokens + table, rtol=1e-5, atol=1e-6)
    to_tokens, to_table = backward(np.float32(gradient))
    np.testing.assert_allclose(to_tokens, gradient, rtol=1e-6)
    np.testing.assert_allclose(to_table, gradient.sum(0, keepdims=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "vit_b17"}, ["vit_b17", "vit_b16"]),
        ({"name": "vit_b16", "image_size": 100}, ["100", "16", "96", "112"]),
        ({"name": "shallownet", "image_size": 8}, ["8", "16"]),
        ({"name": "vit_b16", "dtype": "float16"}, ["float16", "bfloat16"]),
        ({"name": "vit_b16", "num_classes": 0}, ["0"]),
        ({"name": "vit_b16", "pool": "max"}, ["pool", "'max'", "'token'", "'mean'"]),
        ({"name": "vit_b16", "pre_logits": "yes"}, ["pre_logits", "'yes'", "False", "True"]),
        ({"name": "vit_b16", "initializer": "he"}, ["initializer", "vit_b16"]),
        ({"name": "r50_vit_b16", "image_size": 56}, ["56", "16", "48", "64"]),
        ({"name": "r26_vit_b32", "image_size": 48}, ["48", "32", "64"]),
        ({"name": "resnet18", "initializer": "lecun"}, ["initializer", "'lecun'", "'he'", "'xavier'"]),
        ({"name": "resnet18", "pool": "mean"}, ["pool", "resnet18"]),
        ({"name": "resnet18", "image_size": 16}, ["16", "32"]),
    ],
)
def test_bad_models_are_named(arguments, words):
    with pytest.raises(InputError) as error:
        create_model(**{"num_classes": 3, "image_size": 64, **arguments})
    assert all(word in str(error.value) for word in words)
