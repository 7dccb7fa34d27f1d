"""Every ResNet, from files that PyTorch wrote, against torchvision and timm."""

import numpy as np
import pytest
from flax import traverse_util

from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.published import RESNET_SIZES, random_images, relative_difference, torchvision_arrays

pytestmark = pytest.mark.peers


def _load(file, depth, image_size):
    model = create_model(f"resnet{depth}", num_classes=7, image_size=image_size)
    return model, load_pretrained(str(file), model, abstract_variables(model, image_size), keep_head=True)


def _save(model, file):
    """Writes the state of a torch model with torch's own writers."""
    import safetensors.torch
    import torch

    save = torch.save if file.suffix == ".pth" else safetensors.torch.save_file
    save(model.state_dict(), file)
    return file


@pytest.mark.parametrize("depth", RESNET_SIZES)
def test_resnet_agrees_with_torchvision(depth, peers, tmp_path):
    peer = peers.torchvision_resnet(depth, torchvision_arrays(depth, 7), 7)
    model, variables = _load(_save(peer, tmp_path / "resnet.safetensors"), depth, 96)
    for image_size in (96, 75):  # PyTorch's padding differs from SAME, in another way at odd sizes
        images = random_images(2, image_size)
        difference = relative_difference(model.apply(variables, images), peers.logits(peer, images))
        assert difference <= 1e-4, image_size


def test_resnet_agrees_with_timm(peers, tmp_path):
    peer = peers.timm_resnet(50, torchvision_arrays(50, 7), 7)
    model, variables = _load(_save(peer, tmp_path / "model.safetensors"), 50, 64)
    images = random_images(2, 64)
    assert relative_difference(model.apply(variables, images), peers.logits(peer, images)) <= 1e-4


def test_resnet_from_pth_agrees_with_torchvision(peers, tmp_path):
    peer = peers.torchvision_resnet(18, torchvision_arrays(18, 7), 7)
    model, variables = _load(_save(peer, tmp_path / "resnet18.pth"), 18, 64)
    images = random_images(2, 64)
    assert relative_difference(model.apply(variables, images), peers.logits(peer, images)) <= 1e-4


def test_training_mode_and_running_statistics_agree_with_torchvision(peers, tmp_path):
    peer = peers.torchvision_resnet(18, torchvision_arrays(18, 7), 7)
    model, variables = _load(_save(peer, tmp_path / "resnet.safetensors"), 18, 96)
    before = {name: array.numpy().copy() for name, array in peer.state_dict().items()}
    counts = peers.count_norm_inputs(peer)
    images = random_images(4, 96)
    expected = peers.logits(peer.train(), images)
    actual, updated = model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert relative_difference(actual, expected) <= 1e-4
    after = {name: array.numpy() for name, array in peer.state_dict().items()}
    ours = traverse_util.flatten_dict(updated["batch_stats"], sep="/")
    assert len(ours) == 2 * len(counts) == 40
    for module, count in counts.items():
        name = module.replace("downsample.1", "downsample_bn")
        name = name if "." not in name else "{}_{}/{}".format(*name.split("."))
        assert relative_difference(ours[f"{name}/mean"], after[f"{module}.running_mean"]) <= 1e-4
        # PyTorch updates with the variance over n - 1, Flax over n; both keep 0.9 of the old value.
        kept = 0.9 * before[f"{module}.running_var"]
        expected = kept + (after[f"{module}.running_var"] - kept) * (count - 1) / count
        np.testing.assert_allclose(ours[f"{name}/var"], expected, rtol=1e-4)
