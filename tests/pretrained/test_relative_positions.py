"""Tables of relative position biases: resampled to another grid, and the arrays that belong to them in a file."""

import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.errors import InputError
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from animesion_jax.pretrained.relative_positions import resample_relative_positions
from tests.float64_beit import beit_arrays
from tests.pretrained.tiny import SIZE, flatten, refused

TABLE = "blocks.1.attn.relative_position_bias_table"


# Distances of the old table from its middle; the ratio q solves 1 + q + ... = the new grid's largest distance.
@pytest.mark.parametrize(
    ("old", "new", "distances"),
    [
        (5, 3, [1, 2.01, 3.0301, 4.060401]),  # no ratio fits: take 1.01, the smallest
        (3, 4, [1, 2.5]),  # no ratio fits: take 1.5, the largest
        (4, 5, [1, 1 + 1.302776, 4]),  # 1 + q + q**2 = 4
        (2, 3, [1]),
        (1, 3, []),
        (3, 1, [1, 2.01]),
    ],
)
def test_resampled_biases_are_linear_between_geometrically_growing_distances(old, new, distances):
    table = np.random.default_rng(0).standard_normal(((2 * old - 1) ** 2 + 3, 2), np.float32)
    result = resample_relative_positions("file", table, (2 * new - 1) ** 2 + 3)
    at = np.array([-each for each in reversed(distances)] + [0] + distances)
    grid = table[:-3].reshape(2 * old - 1, 2 * old - 1, 2)
    targets = range(1 - new, new)
    rows = [[np.interp(y, at, grid[:, x, head]) for y in targets] for x in range(2 * old - 1) for head in (0, 1)]
    rows = np.reshape(rows, (2 * old - 1, 2, 2 * new - 1))
    expected = [[[np.interp(x, at, rows[:, head, y]) for head in (0, 1)] for x in targets] for y in range(2 * new - 1)]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:-3], np.reshape(expected, (-1, 2)), atol=1e-5)
    np.testing.assert_array_equal(result[-3:], table[-3:])


@pytest.mark.parametrize(("count", "rows"), [(25, 12), (19, 12), (3, 12), (0, 12), (12, 53)])
def test_number_of_rows_that_no_square_grid_has_is_refused(count, rows):
    with pytest.raises(InputError, match=f"file: cannot resample .* {count} rows to {rows}: .*square images"):
        resample_relative_positions("file", np.zeros((count, 2), np.float32), rows)


def _tiny_beit(image_size):
    model = create_model("beit_b16", num_classes=5, image_size=image_size, **SIZE)
    return model, abstract_variables(model, image_size)


def test_file_of_another_image_size_is_resampled_and_its_indices_are_left_out(tmp_path, capsys):
    arrays = beit_arrays(7, 64, **SIZE)
    indices = {f"blocks.{layer}.attn.relative_position_index": np.zeros((17, 17), np.int64) for layer in (0, 1)}
    file = str(tmp_path / "beit.safetensors")
    safetensors.numpy.save_file({f"model.{name}": array for name, array in (arrays | indices).items()}, file)
    loaded = flatten(load_pretrained(file, *_tiny_beit(32)))
    expected = resample_relative_positions(file, arrays[TABLE], 12)
    np.testing.assert_array_equal(loaded["blocks_1/attn/relative_position_bias_table"], expected)
    np.testing.assert_array_equal(loaded["blocks_1/mlp/fc1/kernel"], arrays["blocks.1.mlp.fc1.weight"].T)
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert "blocks_* 2 48 resampled, 52 to 12 positions" in lines, lines
    assert "relative_position_index 2 not read left out: computed from the image size" in lines, lines


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        (TABLE, np.zeros((50, 2), np.float32), ["50 rows to 52", "square images"]),
        (TABLE, np.zeros((52, 3), np.float32), [TABLE, "(52, 3) for (52, 2)"]),
        (TABLE, np.zeros((52, 2), np.int64), [TABLE, "int64"]),
        ("blocks.1.attn.k_bias", np.zeros(8, np.float32), ["Not in the model: 'blocks.1.attn.k_bias' (8,)"]),
        ("rel_pos_bias.relative_position_bias_table", np.zeros((52, 2), np.float32), ["Not in the model: 'rel_pos"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, array, words, tmp_path):
    safetensors.numpy.save_file(beit_arrays(7, 64, **SIZE) | {name: array}, tmp_path / "beit.safetensors")
    refused(tmp_path / "beit.safetensors", *_tiny_beit(64), *words)


def test_file_of_another_size_or_family_is_refused_by_name(tmp_path):
    file = tmp_path / "beit.safetensors"
    safetensors.numpy.save_file(beit_arrays(7, 64, **SIZE), file)
    model = create_model("beit_b16", num_classes=5, image_size=64)
    refused(file, model, abstract_variables(model, 64), "holds a BEiT of", "'hidden_size': 8", "the model is beit_b16")
    model = create_model("vit_b16", num_classes=5, image_size=64)
    refused(file, model, abstract_variables(model, 64), "holds a BEiT of", "the model is vit_b16")
