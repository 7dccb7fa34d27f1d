"""timm's and torchvision's models with given weights. It imports torch, so only the `peers` fixture imports it.

Their loaders, layers and defaults are their own. A default that differs from the published model is set here.
"""

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch


def declare_torchvision_ops() -> torch.library.Library | None:
    """Makes torchvision importable if its compiled operators do not load, as with a CPU build of torch.

    Its models do not need them, but `import torchvision` registers a fake version of each and fails without the real
    ones. Declaring their names is enough. They exist as long as the returned library.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        folder = importlib.util.find_spec("torchvision").submodule_search_locations[0]
        source = Path(folder, "_meta_registrations.py").read_text()
        library = torch.library.Library("torchvision", "DEF")
        for name in {*re.findall(r'register_meta\("(\w+)"', source), *re.findall(r"torchvision::(\w+)", source)}:
            library.define(f"{name}(Tensor x) -> Tensor")
        return library


operators = declare_torchvision_ops()

import timm  # noqa: E402
import torchvision  # noqa: E402

from animesion_jax.export.timm_names import ARCHITECTURES  # noqa: E402


def timm_vit(variant: str, file: str, num_classes: int, image_size: int, **options) -> torch.nn.Module:
    """Returns timm's ViT or hybrid with the weights of a Google `.npz`, loaded by timm."""
    # Google's GELU is the tanh approximation; timm's default is the exact one.
    model = timm.create_model(
        ARCHITECTURES[variant], img_size=image_size, num_classes=num_classes, act_layer="gelu_tanh", **options
    )
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 1e-6  # Google trained with Flax's; timm's default is 1e-5
    model.load_pretrained(file)
    return model.eval()


def torchvision_resnet(depth: int, arrays: Mapping[str, np.ndarray], num_classes: int) -> torch.nn.Module:
    """Returns torchvision's ResNet with a state dict, which must have exactly its names."""
    return _with_state(getattr(torchvision.models, f"resnet{depth}")(num_classes=num_classes), arrays)


def timm_resnet(depth: int, arrays: Mapping[str, np.ndarray], num_classes: int) -> torch.nn.Module:
    """Returns timm's ResNet with a state dict, which must have exactly its names."""
    return _with_state(timm.create_model(f"resnet{depth}", num_classes=num_classes), arrays)


def _with_state(model, arrays):
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    return model.eval()


def logits(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Returns the logits of (batch, S, S, 3) images in the model's current mode."""
    with torch.no_grad():
        return model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))).numpy()


def count_norm_inputs(model: torch.nn.Module) -> dict[str, int]:
    """Returns a dict that the next forward fills with each BatchNorm's number of values per channel, by its name."""
    counts: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            counts[name] = 0
            module.register_forward_hook(
                lambda module, inputs, output, name=name: counts.update({name: output.numel() // output.shape[1]})
            )
    return counts
