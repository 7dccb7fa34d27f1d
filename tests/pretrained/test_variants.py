"""A file of another model, or with other options, is refused with the right model or option."""

import io
import re
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.pretrained.tiny import flatten, refused, tiny_arrays, tiny_resnet, tiny_vit
from tests.published import save_google, torchvision_arrays


@pytest.mark.parametrize(
    ("file", "model"),
    [
        ("vit_b32", "vit_b16"),
        ("r50_vit_b16", "vit_b16"),
        ("r26_vit_b32", "r50_vit_b16"),
        ("vit_h14", "resnet50"),
    ],
)
def test_file_of_another_model_is_refused_by_name(tmp_path, file, model):
    """The file has zeros, and only the arrays that identify its model."""
    params = flatten(abstract_variables(create_model(file, num_classes=3, image_size=224), 224))
    kept = re.compile(r"embedding/kernel|.*(LayerNorm_0/scale|encoderblock_0/.*|unit\d+/conv1/kernel)")
    small = {name: array for name, array in params.items() if kept.fullmatch(name)}
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        for name, array in small.items():
            buffer = io.BytesIO()
            np.save(buffer, np.zeros(array.shape, ml_dtypes.bfloat16))
            archive.writestr(f"{name}.npy", buffer.getvalue())
    made = create_model(model, num_classes=3, image_size=224)
    refused(tmp_path / "w.npz", made, abstract_variables(made, 224), f"holds {file}, the model is {model}")


def test_resnet_of_another_depth_is_refused_by_name(tmp_path):
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(torchvision_arrays(50, 7), file)
    refused(file, *tiny_resnet("resnet18", stage_sizes=(2, 2, 2, 2)), "holds resnet50, the model is resnet18")


def test_file_with_another_pool_is_refused_with_the_right_option(tmp_path):
    file = save_google(tmp_path / "w.npz", tiny_arrays(32, token=False))
    loaded = flatten(load_pretrained(file, *tiny_vit(pool="mean")))
    assert loaded["Transformer/posembed_input/pos_embedding"].shape == (1, 16, 8) and "cls" not in loaded
    refused(
        file, *tiny_vit(), "pool='mean', class_token=False, the model pool='token', class_token=True; ",
        "--config.vit.pool=mean --config.vit.class_token=False, or the same in create_model",
    )  # fmt: skip
    refused(save_google(tmp_path / "t.npz", tiny_arrays()), *tiny_vit(pool="mean"), "--config.vit.pool=token")


def test_file_with_other_options_is_refused_with_all_of_them(tmp_path):
    arrays = tiny_arrays() | {"Transformer/registers": np.zeros((1, 4, 8), np.float32)}
    for leaf in ("scale", "bias"):
        arrays[f"fc_norm/{leaf}"] = arrays.pop(f"Transformer/encoder_norm/{leaf}")
    file = save_google(tmp_path / "w.npz", arrays)
    flags = "--config.vit.fc_norm=True --config.vit.registers=4 --config.vit.pool=mean --config.vit.class_token=True"
    refused(
        file, *tiny_vit(), "has fc_norm=True, registers=4, pool='mean', the model fc_norm=False, registers=0", flags
    )
    load_pretrained(file, *tiny_vit(pool="mean", class_token=True, fc_norm=True, registers=4))
    arrays["Transformer/registers"] = np.zeros((1, 1, 8), np.float32)
    refused(
        save_google(tmp_path / "one.npz", arrays), *tiny_vit(), "has registers=1; allowed: 0, 4; give other weights"
    )


def test_file_without_pre_logits_is_refused_by_a_model_with_them(tmp_path):
    model = tiny_vit(pre_logits=True)
    refused(
        save_google(tmp_path / "w.npz", tiny_arrays()), *model, "has pre_logits=False", "--config.vit.pre_logits=False"
    )
