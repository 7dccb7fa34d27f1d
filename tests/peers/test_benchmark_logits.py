"""The stored logits of benchmarks/gpu_check.py beside timm's and torchvision's, in float64."""

import numpy as np
import pytest

from animesion_jax.models.vit_family import TIMM
from animesion_jax.pretrained.timm_vit import to_timm
from animesion_jax.pretrained.torchvision import to_torchvision
from benchmarks.logits import CASES, CLASSES, make_case, read_stored, relative_error

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", [name for name in CASES if name != "shallownet"])
def test_stored_logits_equal_the_peers(name, peers):
    variables, images = make_case(name)
    if name.startswith("resnet"):
        model = peers.torchvision_resnet(int(name.removeprefix("resnet")), to_torchvision(variables), CLASSES)
    else:
        model = peers.timm.create_model(
            TIMM.models[name], img_size=CASES[name], num_classes=CLASSES, act_layer="gelu_tanh"
        )
        for module in model.modules():
            if isinstance(module, peers.torch.nn.GroupNorm):
                module.eps = 1e-6  # Google's; timm's default is 1e-5
        model = peers.with_state(model, to_timm(variables))
    stored = read_stored()[name]
    expected = peers.logits(model.double(), np.float64(images))
    # Our softmax and classifier are float32; timm's hybrids standardise kernels with another epsilon than Google's.
    allowed = stored["rounding"] / (50 if name == "r26_vit_b32" else 300)
    assert relative_error(stored["logits"], expected) <= allowed
