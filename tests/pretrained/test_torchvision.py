"""torchvision's ResNets as .safetensors and .pth."""

import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from animesion_jax.pretrained import load_pretrained
from tests.pretrained.tiny import Bomb, refused, tiny_resnet
from tests.published import torchvision_arrays


def _conv(images, oihw, stride, padding):
    """Returns PyTorch's convolution of (batch, H, W, channels) images in float64, by its definition."""
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0))).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(padded, oihw.shape[2:], (1, 2))[:, ::stride, ::stride]
    return np.einsum("bhwcij,ocij->bhwo", windows, oihw)


def _forward(state, images):
    """Returns the logits of a ResNet with two stages of one basic unit, from its state dict by the definition."""

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    x = np.maximum(norm(_conv(images, state["conv1.weight"], 2, 3), "bn1"), 0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    for name, stride in (("layer1.0", 1), ("layer2.0", 2)):
        y = np.maximum(norm(_conv(x, state[f"{name}.conv1.weight"], stride, 1), f"{name}.bn1"), 0)
        y = norm(_conv(y, state[f"{name}.conv2.weight"], 1, 1), f"{name}.bn2")
        if stride == 2:
            x = norm(_conv(x, state[f"{name}.downsample.0.weight"], 2, 0), f"{name}.downsample.1")
        x = np.maximum(x + y, 0)
    return x.mean((1, 2)) @ state["fc.weight"].T + state["fc.bias"]


def test_torchvision_resnet_has_the_logits_of_its_definition(tmp_path, capsys):
    state = torchvision_arrays(18, 5, stage_sizes=(1, 1))
    file = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(state, file)
    model, abstract = tiny_resnet()
    variables = load_pretrained(str(file), model, abstract, keep_head=True)
    images = np.random.default_rng(5).standard_normal((2, 32, 32, 3), np.float32)
    expected = _forward(state, images)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    lines = capsys.readouterr().err.splitlines()
    assert sum(int(line.split()[1]) for line in lines[2:]) == len(state)
    assert any("*.num_batches_tracked" in line and "counter" in line for line in lines)
    assert not load_pretrained(str(file), model, abstract)["params"]["head"]["kernel"].any()


def test_torchvision_offenders_are_listed(tmp_path):
    file = tmp_path / "w.safetensors"
    state = torchvision_arrays(18, 7, stage_sizes=(1, 1))
    safetensors.numpy.save_file(state | {"extra.weight": np.zeros((2, 3), np.float32)}, file)
    refused(file, *tiny_resnet(), "in 1 arrays. Not in the model: 'extra.weight' (3, 2). ")
    del state["bn1.running_var"]
    state["layer1.0.conv1.weight"] = np.zeros((64, 64, 1, 1), np.float32)
    safetensors.numpy.save_file(state, file)
    words = ["Of another shape: 'layer1.0.conv1.weight' (1, 1, 64, 64) for (3, 3, 64, 64). "]
    refused(file, *tiny_resnet(), *words, "Not in the file: 'batch_stats/bn1/var' (64,). ")


def test_pth_without_torch_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pth").write_bytes(b"")
    refused(tmp_path / "w.pth", *tiny_resnet(), "pip install torch", ".safetensors")


def test_pth_loads_like_safetensors_and_runs_no_code(tmp_path):
    torch = pytest.importorskip("torch")
    state = torchvision_arrays(18, 7, stage_sizes=(1, 1))
    safetensors.numpy.save_file(state, tmp_path / "w.safetensors")
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    tensors["fc.bias"] = torch.nn.Parameter(tensors["fc.bias"])
    torch.save(tensors, tmp_path / "w.pth")
    one, other = (load_pretrained(str(tmp_path / f"w.{suffix}"), *tiny_resnet()) for suffix in ("safetensors", "pth"))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    for wrong in (Bomb(tmp_path / "fired"), [1, 2], {"state_dict": {}, "epoch": 3}, torch.zeros(3), {"x": "y"}):
        torch.save(wrong, tmp_path / "w.pth")
        refused(tmp_path / "w.pth", *tiny_resnet(), "damaged or not a .pth of tensors by name")
    torch.save({0: torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", *tiny_resnet(), "Not in the model: '0' (3,). ")
    (tmp_path / "w.pth").write_bytes(b"garbage")
    refused(tmp_path / "w.pth", *tiny_resnet(), "damaged")
    assert not (tmp_path / "fired").exists()
