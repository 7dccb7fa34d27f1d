"""EVA02 against its formulas in float64, its stochastic depth, and bfloat16."""

import jax
import jax.numpy as jnp
import pytest
import safetensors.numpy

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests import float64_eva02
from tests.models.stochastic_depth import RATE, check_stochastic_depth
from tests.published import random_images, relative_difference

TINY_EVA02 = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_dim": 40}
IMAGE_SIZE = 42
ARRAYS = float64_eva02.eva02_arrays(5, IMAGE_SIZE, **TINY_EVA02)


def build(**options):
    """Returns a tiny model of 3 x 3 patches."""
    return create_model("eva02_b14", num_classes=5, image_size=IMAGE_SIZE, **TINY_EVA02, **options)


@pytest.fixture
def variables(tmp_path):
    """The variables of `build()` from a file of `ARRAYS`."""
    file = tmp_path / "tiny.safetensors"
    safetensors.numpy.save_file(ARRAYS, file)
    return load_pretrained(str(file), build(), abstract_variables(build(), IMAGE_SIZE), keep_head=True)


def formula(images, **options):
    """Returns the logits and attention weights in float64."""
    return float64_eva02.forward(ARRAYS, images, TINY_EVA02["num_heads"], **options)


@pytest.mark.parametrize("rotary_grid", [16, 32])
def test_logits_equal_the_formulas_in_float64(variables, rotary_grid):
    images = random_images(3, IMAGE_SIZE)
    expected, _ = formula(images, rotary_grid=rotary_grid)
    logits = jax.jit(build(rotary_grid=rotary_grid).apply)(variables, images)
    assert relative_difference(logits, expected) <= 1e-5
    other, _ = formula(images, rotary_grid=48 - rotary_grid)
    assert relative_difference(other, expected) > 1e-3


def test_stochastic_depth_leaves_out_branches_of_examples_at_linear_rates(variables):
    image = random_images(1, IMAGE_SIZE)
    check_stochastic_depth(
        build(dropout_rate=RATE), variables, image, lambda branches: formula(image, branches=branches)[0][0]
    )


def test_bfloat16_rotates_in_float32_and_keeps_float32_logits(variables):
    images = random_images(2, IMAGE_SIZE)
    half = build(dtype="bfloat16")
    logits = jax.jit(half.apply)(variables, images)
    assert logits.dtype == jnp.float32
    expected, _ = formula(images)
    assert 1e-5 < relative_difference(logits, expected) <= 0.03
    program = str(jax.make_jaxpr(half.apply)(variables, images))
    # Three products for each of two rotations, and one softmax, in each of two layers.
    assert program.count("f32[2,10,3,8] = mul") == 12
    assert program.count("f32[2,3,10,10] = exp") == 2
