"""Dropout: masks by the place in the global batch, and the exact rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.models.dropout import Dropout, StochasticDepth, depth_rates


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
def test_dropout_has_its_exact_rate_between_two_256ths(rate):
    """The bound is 4.5 standard deviations of the binomial distribution, which one run in 150,000 exceeds."""
    kept = Dropout(rate).apply(
        {}, (2000, 7, 143), jnp.arange(2000), rngs={"dropout": jax.random.key(1)}, method="draw_mask"
    )
    # Each example has the rate of one of two neighbouring 256ths, which adds to the variance.
    below = np.floor(256 * rate) / 256
    between = (rate - below) * (below + 1 / 256 - rate)
    deviation = np.sqrt((rate * (1 - rate) / 1001 + between) / 2000)
    assert abs(float(1 - kept.mean()) - rate) < 4.5 * deviation
    # Neither neighbours along an axis nor activations with bytes of the same word are correlated.
    gone = ~np.asarray(kept)
    pairs = [
        (gone[:-1], gone[1:]),
        (gone[:, :-1], gone[:, 1:]),
        (gone[:, :-2], gone[:, 2:]),
        (gone[..., :-1], gone[..., 1:]),
    ]
    for one, other in pairs:
        assert abs((one & other).mean() - rate**2) < 4.5 * rate / np.sqrt(one.size) + 1e-5


def test_stochastic_depth_drops_whole_examples_by_their_place_in_the_global_batch():
    x, rngs = jnp.ones((4000, 3, 5)), {"dropout": jax.random.key(0)}
    whole = np.asarray(StochasticDepth(0.2).apply({}, x, True, jnp.arange(4000), rngs=rngs))
    part = StochasticDepth(0.2).apply({}, x[2:9], True, jnp.arange(2, 9), rngs=rngs)
    np.testing.assert_array_equal(part, whole[2:9])
    assert (whole == whole[:, :1, :1]).all()
    np.testing.assert_array_equal(np.unique(whole), np.float32([0, 1.25]))
    # 4.5 standard deviations of the binomial distribution.
    assert abs((whole[:, 0, 0] == 0).mean() - 0.2) < 4.5 * np.sqrt(0.2 * 0.8 / 4000)
    np.testing.assert_array_equal(StochasticDepth(0.2).apply({}, x, False), x)


def test_rates_of_stochastic_depth_grow_linearly_from_zero():
    assert depth_rates(0.1, 5) == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert depth_rates(0.1, 1) == [0]  # as in timm
