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

from animesion_jax.models.vit_family import TIMM  # noqa: E402
from tests.drawn import draw_arrays  # noqa: E402
from tests.peer_cases import Case  # noqa: E402


def timm_vit(variant: str, file: str, num_classes: int, image_size: int, **options) -> torch.nn.Module:
    """Returns timm's ViT or hybrid with the weights of a Google `.npz`, loaded by timm."""
    # Google's GELU is the tanh approximation; timm's default is the exact one.
    model = timm.create_model(
        TIMM.models[variant], img_size=image_size, num_classes=num_classes, act_layer="gelu_tanh", **options
    )
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.eps = 1e-6  # Google trained with Flax's; timm's default is 1e-5
    model.load_pretrained(file)
    return model.eval()


def timm_model(case: Case, image_size: int, **options) -> torch.nn.Module:
    """Returns timm's model of a case for an image size."""
    options = {case.depth: case.peer_layers, "img_size": image_size, "num_classes": case.classes, **options}
    return timm.create_model(case.peer, **case.peer_options, **options).eval()


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """Returns a model with the weights of `draw_arrays`."""
    return with_state(model, draw_arrays(shapes_of(model)))


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the state dict by name."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def save_timm(model: torch.nn.Module, folder: Path) -> str:
    """Writes a timm model as timm does for the hub, and returns the path of the weights."""
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return str(folder / "model.safetensors")


def load_timm(case: Case, file: str, image_size: int) -> torch.nn.Module:
    """Returns timm's model with a file of another image size; timm resamples the positions."""
    published = {"file": file, "num_classes": case.classes, "custom_load": False}
    return timm_model(case, image_size, pretrained=True, pretrained_cfg_overlay=published)


def features_and_logits(model: torch.nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the classifier's input and output for (batch, S, S, 3) images; no logits without a classifier."""
    head = model.get_classifier() if hasattr(model, "get_classifier") else getattr(model, "classifier", None)
    if not isinstance(head, torch.nn.Linear):
        return logits(model, images), None
    kept = []
    with head.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].numpy())):
        result = logits(model, images)
    return kept[0], result


def torchvision_resnet(depth: int, arrays: Mapping[str, np.ndarray], num_classes: int) -> torch.nn.Module:
    """Returns torchvision's ResNet with a state dict, which must have exactly its names."""
    if depth == 10:
        block = torchvision.models.resnet.BasicBlock
        return with_state(torchvision.models.ResNet(block, [1, 1, 1, 1], num_classes=num_classes), arrays)
    return with_state(getattr(torchvision.models, f"resnet{depth}")(num_classes=num_classes), arrays)


def timm_resnet(depth: int, arrays: Mapping[str, np.ndarray], num_classes: int) -> torch.nn.Module:
    """Returns timm's ResNet with a state dict, which must have exactly its names."""
    return with_state(timm.create_model(f"resnet{depth}", num_classes=num_classes), arrays)


def with_state(model: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Returns a model with a state dict, which must have exactly its names but for BatchNorm's counters."""
    counters = {name: each for name, each in model.state_dict().items() if name.endswith("num_batches_tracked")}
    model.load_state_dict(counters | {name: torch.tensor(array) for name, array in arrays.items()}, strict=True)
    return model.eval()


def untrained(name: str, num_classes: int, image_size: int) -> torch.nn.Module:
    """Returns one of the paper's models with PyTorch's, torchvision's or timm's own start."""
    if name == "shallownet":
        return shallownet(num_classes, image_size)
    if name.startswith("resnet"):
        return getattr(torchvision.models, name)(num_classes=num_classes)
    return timm.create_model(TIMM.models[name], img_size=image_size, num_classes=num_classes)


def shallownet(num_classes: int, image_size: int) -> torch.nn.Module:
    """Returns ShallowNet without dropout, from the description of its layers."""
    side = ((image_size - 4) // 2 - 4) // 2
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * side * side, 512), nn.ReLU(), nn.Identity(), nn.Linear(512, num_classes),
    )  # fmt: skip


def start_again(layer: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns the parameters of a layer after PyTorch's default start, by name."""
    layer.reset_parameters()
    return {name: parameter.detach().numpy().copy() for name, parameter in layer.named_parameters()}


class Trainer:
    """PyTorch's SGD on cross-entropy, in float64.

    In float32, PyTorch's gradients of a ResNet on a CPU are 1 % off those in float64; ours are 0.001 % off.
    """

    def __init__(self, model: torch.nn.Module, learning_rate: float, momentum: float, head_only: bool):
        """Takes a model; `head_only` trains the parameters of its last layer."""
        self.model, self.counts = model.double(), count_norm_inputs(model)
        trained = list(model.parameters())[-2:] if head_only else model.parameters()
        self.optimizer = torch.optim.SGD(trained, learning_rate, momentum)

    def update(self, images: np.ndarray, labels: np.ndarray, train_mode: bool) -> float:
        """Returns the loss of (batch, S, S, 3) images before the update."""
        self.model.train(train_mode)
        logits = self.model(torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def bias_variances(self, before: Mapping[str, np.ndarray], steps: int) -> None:
        """Replaces running variances over n - 1 values by those over n, after `steps` updates from `before`."""
        for name, count in self.counts.items():
            variance = self.model.get_submodule(name).running_var
            kept = torch.tensor(before[f"{name}.running_var"], dtype=torch.float64) * 0.9**steps
            variance.copy_(kept + (variance - kept) * (count - 1) / count)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns a copy of the state dict."""
        return {name: tensor.numpy().copy() for name, tensor in self.model.state_dict().items()}


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
