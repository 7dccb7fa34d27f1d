"""Position embeddings resampled to another grid."""

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from animesion_jax.pretrained import load_pretrained
from tests.pretrained.tiny import flatten, refused, tiny_arrays, tiny_vit
from tests.published import save_google
from tests.torch_vits import timm_arrays

TABLE = "Transformer/posembed_input/pos_embedding"


def _bilinear(grid, side):
    """Returns a grid resampled by the definition: with aligned corners, output i is at i (g - 1) / (g' - 1)."""
    places = np.linspace(0, len(grid) - 1, side)
    low = np.minimum(np.floor(places).astype(int), max(len(grid) - 2, 0))
    high, part = np.minimum(low + 1, len(grid) - 1), places - low
    rows = grid[low] * (1 - part)[:, None, None] + grid[high] * part[:, None, None]
    return rows[:, low] * (1 - part)[None, :, None] + rows[:, high] * part[None, :, None]


@pytest.mark.parametrize("cls", [True, False])
@pytest.mark.parametrize(("old", "new"), [(14, 8), (3, 8), (1, 4), (14, 1)])
def test_resampled_positions_are_bilinear_with_aligned_corners(tmp_path, old, new, cls):
    arrays = tiny_arrays(16 * old, token=cls)
    table = arrays[TABLE][0]
    model = tiny_vit(image_size=16 * new, pool="token" if cls else "mean")
    loaded = flatten(load_pretrained(save_google(tmp_path / "w.npz", arrays), *model))
    result = loaded[TABLE][0]
    np.testing.assert_array_equal(result[:cls], table[:cls])
    grid = _bilinear(table[cls:].astype(np.float64).reshape(old, old, 8), new)
    np.testing.assert_allclose(result[cls:].reshape(new, new, 8), grid, atol=1e-6)


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize(("old", "new"), [(28, 8), (14, 24), (5, 2), (4, 1), (1, 4)])
def test_positions_of_timms_files_are_bicubic_and_antialiased(tmp_path, old, new, token):
    """As in Pillow, which computes in float64."""
    arrays = timm_arrays(tiny_arrays(16 * old, token=token))
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(arrays, file)
    loaded = flatten(load_pretrained(str(file), *tiny_vit(image_size=16 * new, pool="token" if token else "mean")))
    table, result = arrays["pos_embed"][0], loaded[TABLE][0]
    np.testing.assert_array_equal(result[:token], table[:token])
    for place in range(8):
        image = Image.fromarray(table[token:, place].reshape(old, old))
        expected = np.asarray(image.resize((new, new), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(result[token:, place].reshape(new, new), expected, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 13, 18])
def test_positions_off_a_square_grid_are_refused(tmp_path, tokens):
    words = [f"{tokens} tokens", "17", f"{tokens - 1} patches", "square"]
    arrays = tiny_arrays()
    arrays[TABLE] = np.zeros((1, tokens, 8), np.float32)
    refused(save_google(tmp_path / "w.npz", arrays), *tiny_vit(), *words)
