import jax
import numpy as np
import pytest

from animesion_jax.training.mixup import cutmix, mix, mixup, partners

RNG = np.random.default_rng(0)
KEYS = jax.random.split(jax.random.key(3), 4000)
SIZE = 24


def _black_and_white():
    """Returns a black and a white image: the first one's brightness is then the share of the second."""
    return np.stack([np.zeros((SIZE, SIZE, 3), np.float32), np.ones((SIZE, SIZE, 3), np.float32)])


def test_mixup_blends_each_with_the_other_by_its_share():
    pair = RNG.random((2, 8, 8, 3)).astype(np.float32)
    mixed, share = jax.jit(mixup, static_argnums=2)(KEYS[0], pair, 0.7)
    one, two = np.float64(pair)
    share = float(share)
    assert 0.01 < share < 0.99
    np.testing.assert_allclose(mixed[0], share * one + (1 - share) * two, rtol=1e-6)
    np.testing.assert_allclose(mixed[1], share * two + (1 - share) * one, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_draws_shares_of_a_beta_distribution(alpha):
    shares = jax.jit(jax.vmap(lambda key: mixup(key, _black_and_white()[:, :1, :1], alpha)[1]))(KEYS)
    drawn = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    # Mean 1/2 and variance 1 / (4 (2 alpha + 1)), and the tails.
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    np.testing.assert_allclose(
        np.quantile(shares, [0.1, 0.3, 0.7, 0.9]), np.quantile(drawn, [0.1, 0.3, 0.7, 0.9]), atol=0.03
    )


def test_cutmix_exchanges_one_rectangle_and_its_share_is_that_of_the_pixels():
    mixed, shares = jax.jit(jax.vmap(lambda key: cutmix(key, _black_and_white(), 1.0)))(KEYS)
    mixed, shares = np.asarray(mixed), np.asarray(shares)
    np.testing.assert_array_equal(mixed[:, 0], 1 - mixed[:, 1])
    from_other = mixed[:, 0, :, :, 0] == 1
    np.testing.assert_array_equal(mixed[:, 0], np.repeat(from_other[..., None], 3, axis=-1))
    np.testing.assert_allclose(1 - shares, from_other.mean((1, 2)), atol=1e-6)
    for cut in from_other[:200]:
        rows, columns = np.flatnonzero(cut.any(1)), np.flatnonzero(cut.any(0))
        assert cut.sum() == len(rows) * len(columns)
        if len(rows) and rows[0] > 0 and rows[-1] < SIZE - 1 and columns[0] > 0 and columns[-1] < SIZE - 1:
            assert len(rows) == len(columns)

    # The published procedure, one pair after the other.
    random, by_hand, corners = np.random.default_rng(1), [], []
    for share in random.beta(1.0, 1.0, 20_000):
        side = int(SIZE * np.sqrt(1 - share))
        y, x = random.integers(0, SIZE, 2)
        top, bottom = np.clip([y - side // 2, y - side // 2 + side], 0, SIZE)
        left, right = np.clip([x - side // 2, x - side // 2 + side], 0, SIZE)
        by_hand.append(1 - (bottom - top) * (right - left) / SIZE**2)
        corners.append((top == 0) & (bottom > 0))
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(np.quantile(shares, quantiles), np.quantile(by_hand, quantiles), atol=0.03)
    assert from_other[:, 0].any(1).mean() == pytest.approx(np.mean(corners), abs=0.03)


def test_mix_blends_neighbours_with_a_share_for_each_pair():
    np.testing.assert_array_equal(partners(np.asarray([4, 5, 6, 7])), [5, 4, 7, 6])
    # Image i has the number i in its channel i alone.
    images = np.stack([np.full((SIZE, SIZE, 8), 0.0, np.float32) for _ in range(8)])
    for place in range(8):
        images[place, ..., place] = 1.0
    mixed, shares = jax.jit(mix, static_argnums=(2, 3))(KEYS[:4], images, 1.0, 0.0)
    expected = np.zeros((8, 8))
    for place in range(8):
        expected[place, place], expected[place, place ^ 1] = shares[place], 1 - shares[place]
    np.testing.assert_allclose(np.asarray(mixed)[:, 0, 0], expected, atol=1e-6)
    assert len(set(np.asarray(shares).tolist())) == 4


def test_mix_takes_mixup_or_cutmix_for_half_of_the_pairs_each():
    pairs = np.concatenate([_black_and_white()] * 1000)
    both, shares = jax.jit(mix, static_argnums=(2, 3))(KEYS[:1000], pairs, 1.0, 1.0)
    blended = ((np.asarray(both) > 0) & (np.asarray(both) < 1)).all((1, 2, 3))
    assert blended[::2].mean() == pytest.approx(0.5, abs=0.05)
    # With both ways, the share is that of the example's own image.
    np.testing.assert_allclose(np.asarray(both)[::2].mean((1, 2, 3)), 1 - np.asarray(shares)[::2], atol=1e-5)
