"""Files of `export --format=safetensors`, loaded by torchvision and timm, against our predictions."""

import json

import jax
import numpy as np
import pytest

from animesion_jax.bundle import Bundle
from animesion_jax.export.safetensors import write_safetensors
from animesion_jax.models import abstract_variables, create_model
from animesion_jax.pretrained import load_pretrained
from tests.published import google_arrays, random_images, save_google, torchvision_arrays

pytestmark = pytest.mark.peers

CLASSES = tuple("abcdefg")
MEAN, STD = (0.5,) * 3, (0.5,) * 3


def _bundle(name, image_size, folder, **options):
    """Returns a bundle with random weights and peaked probabilities."""
    if name.startswith("resnet"):
        import safetensors.numpy

        file = folder / "w.safetensors"
        safetensors.numpy.save_file(torchvision_arrays(int(name.removeprefix("resnet")), 7), file)
    else:
        arrays = google_arrays(name, 7, image_size, token=options.get("pool") != "mean")
        file = save_google(folder / "w.npz", arrays)
    model = create_model(name, num_classes=7, image_size=image_size, **options)
    variables = load_pretrained(str(file), model, abstract_variables(model, image_size), keep_head=True)
    variables["params"]["head"] = jax.tree.map(lambda array: 3 * array, variables["params"]["head"])
    described = {"name": name, "num_classes": 7, "image_size": image_size, **options}
    return Bundle(model, variables, CLASSES, image_size, MEAN, STD, {}, described)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet10", {}),
        ("resnet18", {}),
        ("resnet50", {}),
        ("vit_ti16", {"gelu": "erf"}),
        ("vit_s32", {"pool": "mean"}),
        ("r26_vit_b32", {}),
        ("r50_vit_b16", {}),
    ],
)
def test_exported_file_has_our_probabilities_in_the_peer(name, options, peers, tmp_path):
    import safetensors.torch
    import timm
    import torch
    import torchvision

    bundle = _bundle(name, 64, tmp_path, **options)
    (file,) = write_safetensors(bundle, str(tmp_path / "out.safetensors"))
    with safetensors.safe_open(file, "pt") as opened:
        created = json.loads(opened.metadata()["create"])
    library, _, function = created["call"].rpartition(".")
    module = {"timm": timm, "torchvision.models": torchvision.models}[library]
    peer = getattr(module, function)(**created["arguments"]).eval()
    peer.load_state_dict(safetensors.torch.load_file(file), strict=True)
    for each in peer.modules():
        if isinstance(each, torch.nn.GroupNorm):
            each.eps = 1e-6  # see docs/export.md on hybrids
    images = random_images(3, 64)
    ours = np.asarray(jax.nn.softmax(bundle.model.apply(bundle.variables, images)))
    theirs = np.exp((logits := peers.logits(peer, images).astype(np.float64)) - logits.max(1, keepdims=True))
    theirs /= theirs.sum(1, keepdims=True)
    assert 0.4 < ours.max(1).mean() < 0.999 and ours.std(0).max() > 0.01, ours
    assert np.abs(ours - theirs).max() < 1e-4
