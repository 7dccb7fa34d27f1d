"""Models by name: parameter counts, compute dtypes, records of the families, bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from animesion_jax.errors import InputError
from animesion_jax.models import FAMILIES, HEAD, MODELS, abstract_variables, create_model, family_of, init_variables
from animesion_jax.pretrained.sources import NAMED
from tests.models.test_beit import TINY_BEIT
from tests.models.test_vit import TINY_VIT
from tests.published import random_images

# Parameters at 1,000 classes and 224 px. Sources: torchvision's documentation for ViT-B, L, H (vit_b_16 ... vit_h_14)
# and ResNets, its ResNet(BasicBlock, [1, 1, 1, 1]) for ResNet-10; DeiT for Ti/16 and S/16; timm for S/32;
# google-research/vision_transformer, vit_jax/models_test.py, for hybrids; timm on torch's meta device for S/14, B/14
# and L/14 (DINOv2's without LayerScale), So400m/14 (SigLIP's with a class token), EVA02 and BEiT.
# ShallowNet: 5*5*3*16+16 + 2*16 + 5*5*16*32+32 + 2*32 + 53*53*32*512+512 + 512*1000+1000.
PARAMETERS = {
    "shallownet": 46_550_312,
    "resnet10": 5_418_792,
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
    "vit_s14": 22_004_584,
    "vit_b14": 86_475_496,
    "vit_l14": 304_203_752,
    "vit_so400m14": 413_597_656,
    "r26_vit_b32": 101_383_976,
    "r50_vit_b16": 98_659_112,
    "r50_vit_l32": 328_994_856,
    "beit_b16": 86_530_984,
    "eva02_b14": 86_527_720,
    "eva02_l14": 304_293_800,
}


@pytest.mark.parametrize("name", MODELS)
def test_model_has_the_published_parameter_count_and_is_recognized_by_its_family_alone(name):
    variables = abstract_variables(create_model(name, num_classes=1000, image_size=224), 224)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == PARAMETERS[name]
    assert variables["params"][HEAD]["bias"].shape == (1000,)
    shapes = traverse_util.flatten_dict(variables, sep="/")
    seen = {family.name: family.identify(shapes) for family in FAMILIES.values()}
    assert seen == dict.fromkeys(FAMILIES) | {family_of(name).name: name}


def test_family_names_published_weights_of_its_models():
    for family in FAMILIES.values():
        assert family.weights.keys() <= family.models.keys()
        assert {*family.weights.values()} <= {*NAMED}
    assert {family.name for family in FAMILIES.values() if not family.weights} == {"shallownet"}


HALF_PRECISION = {
    "shallownet": {},
    "resnet18": {"stage_sizes": (1, 1)},
    "vit_ti16": TINY_VIT,
    "r26_vit_b32": {"stem_sizes": (1,), **TINY_VIT},
    "beit_b16": TINY_BEIT,
    # Of full size.
    "resnet34": {},
    "resnet50": {},
}
# Cases of the fast suite. XLA's CPU backend has miscomputed ResNets (kernels/activation.py).
QUICK = {
    ("shallownet", 128),
    ("vit_ti16", 128),
    ("beit_b16", 64),
    ("resnet18", 128),
    ("resnet18", 64),
    ("resnet18", 224),
}


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        pytest.param(name, image_size, marks=[pytest.mark.slow] * ((name, image_size) not in QUICK))
        for name in HALF_PRECISION
        for image_size in (128, 64, 224)
    ],
)
def test_bfloat16_keeps_float32_variables_and_logits(name, image_size):
    full, half = (
        create_model(name, num_classes=7, image_size=image_size, dtype=dtype, **HALF_PRECISION[name])
        for dtype in ("float32", "bfloat16")
    )
    variables = jax.tree.map(lambda leaf: leaf + 0.01, init_variables(half, image_size, 0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (2, image_size, image_size, 3))
    logits = jax.jit(half.apply)(variables, images)
    assert logits.dtype == jnp.float32
    expected = np.asarray(jax.jit(full.apply)(variables, images))
    assert not np.array_equal(logits, expected)
    # bfloat16 has 8 bits of mantissa, which is one or two percent after a few layers. NaN fails.
    np.testing.assert_allclose(logits, expected, atol=0.03 * np.abs(expected).max())


def test_bfloat16_training_keeps_batch_statistics_in_float32():
    model = create_model("resnet18", num_classes=7, image_size=32, dtype="bfloat16", stage_sizes=(1, 1))
    variables = init_variables(model, 32, 0)
    forward = jax.jit(lambda images: model.apply(variables, images, train=True, mutable=["batch_stats"]))
    logits, updated = forward(random_images(4, 32))
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
    # An update in bfloat16 would leave the variance with 8 bits.
    variance = np.asarray(updated["batch_stats"]["bn1"]["var"])
    assert not np.array_equal(variance, variance.astype(jnp.bfloat16).astype(np.float32))


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if hasattr(value, "eqns"):
                yield from _equations(value)


@pytest.mark.parametrize("name", ["vit_ti16", "r26_vit_b32", "beit_b16"])
def test_bfloat16_attention_computes_its_softmax_in_float32(name):
    model = create_model(name, num_classes=7, image_size=32, dtype="bfloat16", **HALF_PRECISION[name])
    jaxpr = jax.make_jaxpr(model.apply)(abstract_variables(model, 32), jnp.zeros((1, 32, 32, 3)))
    dtypes = [equation.invars[0].aval.dtype for equation in _equations(jaxpr.jaxpr) if equation.primitive.name == "exp"]
    assert dtypes == [jnp.float32] * 2  # one a layer; GELU and the classifier have none


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "vit_b17"}, ["vit_b17", "vit_b16"]),
        ({"name": "vit_b16", "image_size": 100}, ["100", "16", "96", "112"]),
        ({"name": "shallownet", "image_size": 8}, ["8", "16"]),
        ({"name": "vit_b16", "dtype": "float16"}, ["float16", "bfloat16"]),
        ({"name": "vit_b16", "num_classes": 0}, ["0"]),
        ({"name": "vit_b16", "pool": "max"}, ["pool", "'max'", "'token'", "'mean'"]),
        ({"name": "vit_b16", "registers": 1}, ["registers", "1", "0, 4"]),
        ({"name": "vit_b16", "epsilon": 1e-7}, ["epsilon", "1e-07", "1e-06, 1e-05, 1e-12"]),
        ({"name": "vit_b16", "class_token": False}, ["pool='token', class_token=False, fc_norm=False; allowed: "]),
        ({"name": "vit_b16", "pool": "mean", "class_token": True}, ["pool='mean', class_token=True, fc_norm=True"]),
        ({"name": "vit_b16", "fc_norm": True}, ["cannot have pool='token', class_token=True, fc_norm=True; allowed: "]),
        ({"name": "vit_b16", "pre_logits": "yes"}, ["pre_logits", "'yes'", "False", "True"]),
        ({"name": "vit_b16", "initializer": "he"}, ["initializer", "vit_b16"]),
        ({"name": "r50_vit_b16", "image_size": 56}, ["56", "16", "48", "64"]),
        ({"name": "resnet18", "initializer": "lecun"}, ["initializer", "'lecun'", "'he'", "'xavier'"]),
        ({"name": "resnet18", "image_size": 16}, ["16", "32"]),
    ],
)
def test_create_model_names_the_bad_argument_and_the_allowed_values(arguments, words):
    with pytest.raises(InputError) as error:
        create_model(**{"num_classes": 3, "image_size": 64, **arguments})
    assert all(word in str(error.value) for word in words)
