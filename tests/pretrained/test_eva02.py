"""EVA02 from files with timm's names and with its authors'; every array has a fate."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.models import FAMILIES, abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from animesion_jax.pretrained.timm import to_timm
from tests import float64_eva02
from tests.pretrained.tiny import flatten, refused

SIZE = {"hidden_size": 8, "num_layers": 2, "num_heads": 2, "mlp_dim": 12}
# The authors' names beside timm's, read off timm's filter of their files.
AUTHORS = (
    ("mlp.fc1_g.", "mlp.w1."),
    ("mlp.fc1_x.", "mlp.w2."),
    ("mlp.norm.", "mlp.ffn_ln."),
    ("mlp.fc2.", "mlp.w3."),
    ("q_proj.bias", "q_bias"),
    ("v_proj.bias", "v_bias"),
)


def _model(image_size=56):
    model = create_model("eva02_b14", num_classes=5, image_size=image_size, **SIZE)
    return model, abstract_variables(model, image_size)


def _load(tmp_path, arrays, image_size=56):
    safetensors.numpy.save_file(arrays, tmp_path / "weights.safetensors")
    return load_pretrained(str(tmp_path / "weights.safetensors"), *_model(image_size), keep_head=True)


def authors_file(arrays):
    """Returns the arrays as the authors write them after masked pre-training, and those that timm leaves out."""
    width = arrays["cls_token"].shape[-1]
    file = {name: array for name, array in arrays.items() if not name.startswith("head")}
    for leaf in ("weight", "bias"):
        file[f"norm.{leaf}"] = file.pop(f"fc_norm.{leaf}")
    for theirs, ours in AUTHORS:
        file = {name.replace(theirs, ours): array for name, array in file.items()}
    file |= {"mask_token": np.ones((1, 1, width), np.float32), "lm_head.weight": np.ones((6, width), np.float32)}
    ropes = [f"{module}rope.freqs_{kind}" for module in ("", "blocks.0.attn.") for kind in ("cos", "sin")]
    return file | {"lm_head.bias": np.ones(6, np.float32), **{name: np.ones((16, 4), np.float32) for name in ropes}}


@pytest.fixture
def arrays():
    """A file with timm's names for 4 x 4 patches and 5 classes."""
    return float64_eva02.eva02_arrays(5, 56, **SIZE)


def test_file_returns_under_timms_names(arrays, tmp_path):
    returned = to_timm(_load(tmp_path, arrays), FAMILIES["eva02"])
    assert returned.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(returned[name], array, name)


def test_authors_file_of_masked_pre_training_has_a_fate_for_every_array(arrays, tmp_path, capsys):
    expected = flatten(_load(tmp_path, arrays))
    capsys.readouterr()
    loaded = flatten(_load(tmp_path, authors_file(arrays)))
    assert not np.any(loaded.pop("head/kernel")) and not np.any(loaded.pop("head/bias"))
    del expected["head/kernel"], expected["head/bias"]
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    reason = ["left", "out:", "only", "masked", "pre-training", "needs", "it"]
    assert ["mask_token", "1", "8", *reason] in lines
    assert ["lm_head", "2", "54", *reason] in lines
    for name in ("freqs_cos", "freqs_sin"):
        assert [name, "2", "not", "read", "left", "out:", "computed", "from", "the", "image", "size"] in lines


def test_norm_before_the_mean_is_refused_without_masked_pre_training(arrays, tmp_path):
    for leaf in ("weight", "bias"):
        arrays[f"norm.{leaf}"] = arrays.pop(f"fc_norm.{leaf}")
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", *_model(), "Not in the file: 'params/fc_norm/", "Not in the model: 'norm.")


def test_norm_inside_attention_is_refused_by_the_name_of_its_layout(arrays, tmp_path):
    arrays |= {f"blocks.{i}.attn.norm.{leaf}": np.ones(8, np.float32) for i in (0, 1) for leaf in ("weight", "bias")}
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", *_model(), "names of timm's EVA02-CLIP, which are not supported; allowed: ")


def test_other_depth_is_named_before_single_arrays(arrays, tmp_path):
    safetensors.numpy.save_file(
        {name: array for name, array in arrays.items() if not name.startswith("blocks.1.")}, tmp_path / "w.safetensors"
    )
    refused(tmp_path / "w.safetensors", *_model(), "'num_layers': 1", "'num_layers': 2")


def test_resampling_keeps_the_position_of_the_class_token(arrays, tmp_path):
    """Halving the grid: a bicubic kernel (a = -1/2) of twice the width, whose weights are normalised at the edges."""

    def weights(new):
        near = np.abs((np.arange(4) + 0.5) - (2 * new + 1)) / 2
        values = np.where(near < 1, 1.5 * near**3 - 2.5 * near**2 + 1, -0.5 * near**3 + 2.5 * near**2 - 4 * near + 2)
        values = np.where(near < 2, values, 0)
        return values / values.sum()

    matrix = np.stack([weights(0), weights(1)])
    table = flatten(_load(tmp_path, arrays, 28))["pos_embed"]
    np.testing.assert_array_equal(table[0, 0], arrays["pos_embed"][0, 0])
    expected = np.einsum("yi,xj,ijd->yxd", matrix, matrix, np.float64(arrays["pos_embed"][0, 1:]).reshape(4, 4, 8))
    np.testing.assert_allclose(table[0, 1:].reshape(2, 2, 8), expected, atol=1e-7)
