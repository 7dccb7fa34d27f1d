import math

import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.optim import make_optimizer, make_schedule, split_params
from configs import common


def _config(**fields):
    config = common.get_config()
    config.update(fields)
    return config


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1e-3), (99, 1e-3), (100, 1e-3 / 3), (199, 1e-3 / 3), (200, 1e-3 / 9), (249, 1e-3 / 9)],
)
def test_piecewise_divides_by_three_after_every_20_epochs(step, expected):
    schedule = make_schedule(_config(epochs=50, learning_rate=1e-3, decay_epochs=20), steps_per_epoch=5)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-6)
    assert float(schedule(jnp.int32(step))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 50, 99, 100])
def test_cosine_with_warm_up(step):
    schedule = make_schedule(_config(schedule="cosine", epochs=10, learning_rate=0.1, warmup_epochs=1.0), 10)
    expected = 0.1 * step / 10 if step < 10 else 0.05 * (1 + math.cos(math.pi * (step - 10) / 90))
    assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)


def test_cosine_without_warm_up_starts_at_the_top():
    assert float(make_schedule(_config(schedule="cosine", learning_rate=0.1), 10)(0)) == pytest.approx(0.1)


def test_sgd_momentum_follows_the_formula():
    config = _config(learning_rate=0.5, momentum=0.9, decay_epochs=1, decay_factor=2.0)
    optimizer = make_optimizer(config, make_schedule(config, steps_per_epoch=2))
    weight, velocity, state = 1.0, 0.0, optimizer.init(jnp.float32(1.0))
    for step, gradient in enumerate([1.0, -2.0, 0.5, 3.0]):
        velocity = 0.9 * velocity + gradient
        expected = -(0.5 if step < 2 else 0.25) * velocity
        update, state = optimizer.update(jnp.float32(gradient), state, jnp.float32(weight))
        np.testing.assert_allclose(update, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"schedule": "linear"}, "linear"),
        ({"decay_epochs": 0}, "0"),
        ({"schedule": "cosine", "warmup_epochs": 60.0}, "60"),
    ],
)
def test_bad_schedules_are_named(fields, word):
    with pytest.raises(InputError, match=word):
        make_schedule(_config(**fields), 10)


def test_unknown_trainable_is_named():
    with pytest.raises(InputError, match=r"'tail'.*all, head"):
        split_params({"head": {}}, "tail")
