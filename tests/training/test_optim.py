import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from animesion_jax.configs import common
from animesion_jax.training.optim import make_optimizer, make_schedule, update_average


def _config(**fields):
    config = common.get_config()
    config.update(fields)
    return config


@pytest.mark.parametrize(("step", "divisions"), [(0, 0), (99, 0), (100, 1), (199, 1), (200, 2), (249, 2)])
@pytest.mark.parametrize("factor", [3.0, 2.0])
def test_step_schedule_divides_by_the_factor_after_every_20_epochs(step, divisions, factor):
    config = _config(epochs=50, learning_rate=1e-3, decay_epochs=20, decay_factor=factor)
    schedule = make_schedule(config, steps_per_epoch=5)
    assert float(schedule(jnp.int32(step))) == pytest.approx(1e-3 / factor**divisions, rel=1e-6)


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 99])
def test_cosine_schedule_rises_linearly_then_falls(step):
    schedule = make_schedule(_config(schedule="cosine", epochs=10, learning_rate=0.1, warmup_epochs=1.0), 10)
    expected = 0.1 * step / 10 if step < 10 else 0.05 * (1 + math.cos(math.pi * (step - 10) / 90))
    assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)


def test_cosine_schedule_without_warm_up_starts_at_the_peak():
    assert float(make_schedule(_config(schedule="cosine", learning_rate=0.1), 10)(0)) == pytest.approx(0.1)


PARAMS = {
    "Dense_0": {"kernel": np.float32([[1.0, -2.0], [0.5, 3.0]]), "bias": np.float32([0.3, -0.7])},
    "posembed_input": {"pos_embedding": np.float32([[[2.0, -1.0]]])},
    "query": {"kernel": np.float32([[[1.5]]]), "bias": np.float32([[-0.5]])},
    "LayerNorm_0": {"scale": np.float32([1.1, 0.9])},
}


def _compare_with_float64(config, by_hand):
    """Takes four steps; `by_hand(weight, gradient, memory, step, decay)` is one in float64 of one array."""
    rng, params = np.random.default_rng(0), jax.tree.map(jnp.asarray, PARAMS)
    expected, memory = jax.tree.map(np.float64, PARAMS), {}
    optimizer = make_optimizer(config, lambda step: 0.1 / (1.0 + step))
    state = optimizer.init(params)
    for step in range(4):
        gradients = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), PARAMS)
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for module, leaves in expected.items():
            for name, weight in leaves.items():
                # Nothing but kernels decays, whatever the number of dimensions.
                decay = config.weight_decay if name == "kernel" else 0.0
                gradient = np.float64(gradients[module][name])
                leaves[name] = by_hand(weight, gradient, memory.setdefault((module, name), {}), step, decay)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), params, expected)


def test_adamw_matches_the_formula_and_decays_only_kernels():
    def by_hand(weight, gradient, memory, step, decay):
        rate, b1, b2 = 0.1 / (1 + step), 0.8, 0.999
        first = memory["first"] = b1 * memory.get("first", 0) + (1 - b1) * gradient
        second = memory["second"] = b2 * memory.get("second", 0) + (1 - b2) * gradient**2
        first, second = first / (1 - b1 ** (step + 1)), second / (1 - b2 ** (step + 1))
        return weight - rate * (first / (np.sqrt(second) + 1e-8) + decay * weight)

    _compare_with_float64(_config(optimizer="adamw", momentum=0.8, weight_decay=0.3), by_hand)


def test_sgd_weight_decay_adds_to_the_gradient_of_kernels():
    def by_hand(weight, gradient, memory, step, decay):
        memory["v"] = 0.8 * memory.get("v", 0) + gradient + decay * weight
        return weight - 0.1 / (1 + step) * memory["v"]

    _compare_with_float64(_config(momentum=0.8, weight_decay=0.3), by_hand)


def test_average_matches_the_recursion_with_warm_up():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 3)).astype(np.float32)
    average, expected = {"w": jnp.zeros(3)}, np.zeros(3)
    for step, value in enumerate(values):
        average = update_average(average, {"w": jnp.asarray(value)}, 0.8, jnp.int32(step))
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.float64(value)
        np.testing.assert_allclose(average["w"], expected, rtol=1e-4, atol=1e-6)
    assert (1 + 34) / (10 + 34) < 0.8 < (1 + 36) / (10 + 36)
    still = {"w": jnp.asarray(values[0])}
    np.testing.assert_array_equal(update_average(still, still, 0.8, jnp.int32(7))["w"], values[0])
