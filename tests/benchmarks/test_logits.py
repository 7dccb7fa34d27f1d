"""`benchmarks/logits.py` on a CPU."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.logits import ALLOWED, CASES, compute_logits, make_case, read_stored, relative_error, round_to_tf32

# A member of every family.
NAMES = ("shallownet", "resnet18", "vit_ti16", "r26_vit_b32")


@pytest.fixture(scope="module")
def stored():
    return read_stored()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_the_stored_ones(stored, name, dtype):
    logits = compute_logits(name, jnp.dtype(dtype), *make_case(name))
    assert relative_error(logits, stored[name]["logits"]) <= ALLOWED[dtype] * stored[name]["rounding"]


def test_logits_with_tf32_weights_differ_from_float32(stored):
    variables, images = make_case("shallownet")
    variables["params"]["head"]["kernel"] = round_to_tf32(variables["params"]["head"]["kernel"])
    error = relative_error(compute_logits("shallownet", jnp.float32, variables, images), stored["shallownet"]["logits"])
    assert error > ALLOWED["float32"] * stored["shallownet"]["rounding"]


def test_stored_logits_have_every_case(stored):
    assert list(stored) == list(CASES)


def test_relative_error_counts_in_standard_deviations_between_images():
    stored = np.array([[1.0, 5.0], [3.0, 9.0]])  # standard deviations 1 and 2
    assert relative_error(stored + np.array([1.0, 2.0]), stored) == pytest.approx(1.0)


def test_round_to_tf32_keeps_eleven_significant_bits():
    one = np.array([1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-12, -1 - 2**-13], np.float32)
    assert round_to_tf32(one).tolist() == [1 + 2**-10, 1 + 2**-10, 1 + 2**-10, -1]
