import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.models import MODELS, create_model, init_variables
from animesion_jax.models.dropout import Dropout

# Parameters at 1,000 classes and 224 px. ViT-B, L, H: torchvision's documentation (vit_b_16 ... vit_h_14); Ti/16 and
# S/16: DeiT; S/32: timm. ShallowNet: 5*5*3*16+16 + 2*16 + 5*5*16*32+32 + 2*32 + 53*53*32*512+512 + 512*1000+1000.
PARAMETERS = {
    "shallownet": 46_550_312,
    "vit_ti16": 5_717_416,
    "vit_s16": 22_050_664,
    "vit_s32": 22_878_952,
    "vit_b16": 86_567_656,
    "vit_b32": 88_224_232,
    "vit_l16": 304_326_632,
    "vit_l32": 306_535_400,
    "vit_h14": 632_045_800,
}


def test_every_model_has_a_published_count():
    assert set(PARAMETERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameter_count(name):
    model = create_model(name, num_classes=1000, image_size=224)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


def _layer_norm(x, p):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-6) * p["scale"] + p["bias"]


def _vit_forward(params, images, patch, layers):
    """The equations 1 to 4 of arXiv:2010.11929 in float64 numpy."""
    batch, side, _, _ = images.shape
    grid = side // patch
    patches = images.reshape(batch, grid, patch, grid, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    embedding = params["embedding"]
    x = patches.reshape(batch, grid * grid, -1) @ embedding["kernel"].reshape(patch * patch * 3, -1) + embedding["bias"]
    x = np.concatenate([np.broadcast_to(params["cls"], (batch, 1, x.shape[-1])), x], 1)
    encoder = params["Transformer"]
    x = x + encoder["posembed_input"]["pos_embedding"]
    for i in range(layers):
        block = encoder[f"encoderblock_{i}"]
        y, attention = _layer_norm(x, block["LayerNorm_0"]), block["MultiHeadDotProductAttention_0"]
        q, k, v = (
            np.einsum("btd,dhe->bhte", y, attention[n]["kernel"]) + attention[n]["bias"][None, :, None]
            for n in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("bhte,hed->btd", weights @ v, attention["out"]["kernel"]) + attention["out"]["bias"]
        y, mlp = _layer_norm(x, block["LayerNorm_1"]), block["MlpBlock_0"]
        y = y @ mlp["Dense_0"]["kernel"] + mlp["Dense_0"]["bias"]
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        x = x + y @ mlp["Dense_1"]["kernel"] + mlp["Dense_1"]["bias"]
    return _layer_norm(x, encoder["encoder_norm"])[:, 0] @ params["head"]["kernel"] + params["head"]["bias"]


def test_vit_computes_the_paper_in_float64():
    options = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_dim": 40}
    model = create_model("vit_ti16", num_classes=5, image_size=32, **options)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), init_variables(model, 32, 0)["params"]
    )
    images = rng.normal(size=(2, 32, 32, 3)).astype(np.float32)
    expected = _vit_forward(jax.tree.map(np.float64, params), np.float64(images), 16, 2)
    np.testing.assert_allclose(model.apply({"params": params}, images), expected, rtol=2e-4, atol=2e-4)


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


@pytest.mark.parametrize("name", ["shallownet", "vit_ti16"])
def test_bfloat16_keeps_float32_parameters_and_logits(name):
    options = {"num_layers": 2} if name.startswith("vit") else {}
    full = create_model(name, num_classes=7, image_size=32, **options)
    half = create_model(name, num_classes=7, image_size=32, dtype="bfloat16", **options)
    variables = jax.tree.map(lambda leaf: leaf + 0.01, init_variables(half, 32, 0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    logits = half.apply(variables, images)
    assert logits.dtype == jnp.float32
    expected = np.asarray(full.apply(variables, images))
    # bfloat16 has 8 bits of mantissa: a per cent or two after a few layers.
    np.testing.assert_allclose(logits, expected, atol=0.03 * np.abs(expected).max())


def test_dropout_depends_on_the_place_in_the_global_batch_only():
    x, rngs = jnp.ones((6, 500)), {"dropout": jax.random.key(0)}
    whole = Dropout(0.2).apply({}, x, True, jnp.arange(6), rngs=rngs)
    part = Dropout(0.2).apply({}, x[2:4], True, jnp.arange(2, 4), rngs=rngs)
    np.testing.assert_array_equal(part, whole[2:4])
    assert not np.array_equal(whole[0], whole[1])
    assert abs(float((whole == 0).mean()) - 0.2) < 0.03
    np.testing.assert_array_equal(np.unique(whole), np.float32([0, 1.25]))
    np.testing.assert_array_equal(Dropout(0.2).apply({}, x, False), x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "vit_b17"}, ["vit_b17", "vit_b16"]),
        ({"name": "vit_b16", "image_size": 100}, ["100", "16", "96", "112"]),
        ({"name": "shallownet", "image_size": 8}, ["8", "16"]),
        ({"name": "vit_b16", "dtype": "float16"}, ["float16", "bfloat16"]),
        ({"name": "vit_b16", "num_classes": 0}, ["0"]),
    ],
)
def test_bad_models_are_named(arguments, words):
    with pytest.raises(InputError) as error:
        create_model(**{"num_classes": 3, "image_size": 64, **arguments})
    assert all(word in str(error.value) for word in words)
