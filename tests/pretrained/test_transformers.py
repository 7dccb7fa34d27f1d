"""transformers' ViTs: logits by the paper in float64, with the names of 4.x and of 5.x."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.pretrained import load_pretrained
from tests import float64_vit
from tests.pretrained.tiny import refused, tiny_arrays, tiny_vit
from tests.published import random_images, relative_difference
from tests.torch_vits import transformers_arrays

SIZE = {"hidden_size": 24, "num_heads": 3, "mlp_dim": 40}
MASK_TOKEN = "embeddings.mask_token"


def _save(path, arrays):
    safetensors.numpy.save_file(arrays, path)
    return str(path)


@pytest.mark.parametrize("release", [4, 5])
@pytest.mark.parametrize("prefix", ["", "vit."])
def test_transformers_vit_equals_the_paper_in_float64(prefix, release, tmp_path):
    google, images = tiny_arrays(pre_logits=True, **SIZE), random_images(2, 64)
    file = _save(tmp_path / "w.safetensors", transformers_arrays(google, release, prefix))
    options = {"pre_logits": True, "gelu": "erf", "epsilon": 1e-12}
    model, variables = tiny_vit(num_classes=7, **SIZE, **options)
    actual = jax.jit(model.apply)(load_pretrained(file, model, variables, keep_head=True), images)
    assert relative_difference(actual, float64_vit.forward(google, images, "erf", 1e-12)) <= 1e-5


def test_pooler_and_mask_token_are_left_out(tmp_path, capsys):
    arrays = transformers_arrays(tiny_arrays(pre_logits=True), 4, "vit.") | {f"vit.{MASK_TOKEN}": np.ones((1, 1, 8))}
    load_pretrained(_save(tmp_path / "w.safetensors", arrays), *tiny_vit())
    *lines, note = capsys.readouterr().err.splitlines()
    assert note == (
        "note: the arrays do not reveal these options, which stay as in the config: vit.gelu=tanh, vit.epsilon=1e-06, "
        "mean, std, fit; for a copy of published weights, --config=CONFIG:MODEL,pretrained=NAME sets them"
    )
    assert "  pre_logits                       2           72  left out: the model has no pre_logits" in lines
    assert lines[-3].split()[0] == MASK_TOKEN and lines[-3].endswith(
        "1            8  left out: only the training without labels needs it"
    )


def test_wrapper_is_taken_off_and_an_array_that_the_model_lacks_is_refused_by_its_name(tmp_path):
    arrays = {f"module.{name}": array for name, array in transformers_arrays(tiny_arrays(), 4, "vit.").items()}
    load_pretrained(_save(tmp_path / "w.safetensors", arrays), *tiny_vit())
    arrays["module.vit.embeddings.distillation_token"] = np.zeros((1, 1, 8), np.float32)
    words = "in 1 arrays. Not in the model: 'vit.embeddings.distillation_token' (1, 1, 8). "
    refused(_save(tmp_path / "w.safetensors", arrays), *tiny_vit(), words)


def test_both_generations_of_names_in_one_file_are_refused(tmp_path):
    arrays = transformers_arrays(tiny_arrays(), 5) | transformers_arrays(tiny_arrays(), 4)
    first, second = "encoder.layer.0.attention.attention.key.bias", "layers.0.attention.k_proj.bias"
    words = (
        f"in 32 arrays. Not usable: '{first}' and '{second}' (8,) both stand for 'params/Transformer/encoderblock_0/"
    )
    refused(_save(tmp_path / "w.safetensors", arrays), *tiny_vit(), words)
