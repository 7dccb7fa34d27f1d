"""Resampled tables of relative position biases against timm's function."""

import numpy as np
import pytest

from animesion_jax.pretrained.relative_positions import resample_relative_positions

pytestmark = pytest.mark.peers


# 14 x 14 patches are 224 px; 8, 16, 24 and 32 are 128, 256, 384 and 512 px.
@pytest.mark.parametrize(("old", "new"), [(14, 8), (14, 16), (14, 24), (14, 32), (24, 14), (8, 14), (1, 3), (3, 1)])
def test_resampled_table_equals_timms(old, new, peers):
    table = np.random.default_rng(0).standard_normal(((2 * old - 1) ** 2 + 3, 12), np.float32)
    rows = (2 * new - 1) ** 2 + 3
    expected = peers.timm.layers.resize_rel_pos_bias_table(peers.torch.from_numpy(table), (new, new), (rows, 12))
    np.testing.assert_allclose(resample_relative_positions("file", table, rows), expected.numpy(), atol=1e-5)
