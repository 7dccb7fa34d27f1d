"""BEiT against its formulas in float64, and its stochastic depth."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.models.beit import relative_position_index
from animesion_jax.pretrained import load_pretrained
from tests import float64_beit
from tests.models.stochastic_depth import RATE, check_stochastic_depth
from tests.published import random_images, relative_difference

TINY_BEIT = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "mlp_dim": 40}


@pytest.fixture
def tiny(tmp_path):
    """(arrays by timm's names, a function of options that returns a model, its variables) for 48 px."""
    arrays = float64_beit.beit_arrays(5, 48, **TINY_BEIT)
    file = tmp_path / "tiny.safetensors"
    safetensors.numpy.save_file(arrays, file)

    def build(**options):
        return create_model("beit_b16", num_classes=5, image_size=48, **TINY_BEIT, **options)

    return arrays, build, load_pretrained(str(file), build(), abstract_variables(build(), 48), keep_head=True)


def test_relative_position_index_of_two_by_two_patches():
    # The class token, then the patches row by row; distances from (-1, -1) to (1, 1) are numbered by row.
    expected = [
        [11, 9, 9, 9, 9],
        [10, 4, 3, 1, 0],
        [10, 5, 4, 2, 1],
        [10, 7, 6, 4, 3],
        [10, 8, 7, 5, 4],
    ]
    np.testing.assert_array_equal(relative_position_index(2), expected)


def test_logits_equal_the_formulas_in_float64(tiny):
    arrays, build, variables = tiny
    images = random_images(3, 48)
    expected, _ = float64_beit.forward(arrays, images)
    assert relative_difference(jax.jit(build().apply)(variables, images), expected) <= 1e-5


def test_stochastic_depth_leaves_out_branches_of_examples_at_linear_rates(tiny):
    arrays, build, variables = tiny
    image = random_images(1, 48)
    check_stochastic_depth(
        build(dropout_rate=RATE), variables, image, lambda branches: float64_beit.forward(arrays, image, branches)[0][0]
    )
