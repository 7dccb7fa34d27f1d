"""Random weights in the published layouts: Google's ViT archives and torchvision's ResNets.

Sizes, names and shapes are literals from the papers and the published files, independent of our models. The values keep
activations near 1, and every part of a model shows in the logits, the epsilons included.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class ViTSize(NamedTuple):
    """A row of arXiv:2010.11929 table 1; a hybrid has patches of 1 after a ResNet of `stem_sizes` units per stage."""

    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    stem_sizes: tuple[int, ...] = ()


VIT_SIZES = {
    "vit_ti16": ViTSize(16, 192, 12, 3, 768),
    "vit_s16": ViTSize(16, 384, 12, 6, 1536),
    "vit_s32": ViTSize(32, 384, 12, 6, 1536),
    "vit_b16": ViTSize(16, 768, 12, 12, 3072),
    "vit_b32": ViTSize(32, 768, 12, 12, 3072),
    "vit_l16": ViTSize(16, 1024, 24, 16, 4096),
    "vit_l32": ViTSize(32, 1024, 24, 16, 4096),
    "vit_h14": ViTSize(14, 1280, 32, 16, 5120),
    "r26_vit_b32": ViTSize(1, 768, 12, 12, 3072, (2, 2, 2, 2)),
    "r50_vit_b16": ViTSize(1, 768, 12, 12, 3072, (3, 4, 9)),
    "r50_vit_l32": ViTSize(1, 1024, 24, 16, 4096, (3, 4, 6, 3)),
}

# Units per stage and 3x3 convolutions' widths times this give a unit's output (arXiv:1512.03385 table 1; ResNet-10 is
# that of arXiv:1612.01452).
RESNET_SIZES = {
    10: ((1, 1, 1, 1), 1),
    18: ((2, 2, 2, 2), 1),
    34: ((3, 4, 6, 3), 1),
    50: ((3, 4, 6, 3), 4),
    101: ((3, 4, 23, 3), 4),
    152: ((3, 8, 36, 3), 4),
}

LINEN_NAMES = (
    ("LayerNorm_2", "LayerNorm_1"),
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("MlpBlock_3", "MlpBlock_0"),
)

# Standard deviation of the terms added to the residual stream. LayerNorm undoes it, except for its epsilon of 1e-6,
# which would not show beside a variance of 1.
STREAM = 0.02
# Scales of GroupNorm in a stem's unit. The inner ones are small for the same reason: the next GroupNorm sees a variance
# of about 1e-3. The last one is as small as in trained units: sixteen units of 1 amplify rounding errors 100 times.
STEM_GAINS = {"gn1": 2e-3, "gn2": 2e-3, "gn3": 0.3, "gn_proj": 1.0}


class _Draw:
    """Random float32 arrays; the order of the calls decides their values."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def normal(self, *shape: int, std: float) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32) * np.float32(std)

    def dense(self, name: str, shape: tuple[int, ...], fan_in: int, bias: tuple[int, ...], gain: float = 1.0) -> Arrays:
        """Returns a kernel and a bias, which turn inputs of variance 1 into outputs of about variance gain**2."""
        return {
            f"{name}/kernel": self.normal(*shape, std=gain / fan_in**0.5),
            f"{name}/bias": self.normal(*bias, std=0.1 * gain),
        }

    def norm(self, name: str, width: int, gain: float = 1.0) -> Arrays:
        """Returns a LayerNorm's or GroupNorm's scale and bias."""
        return {
            f"{name}/scale": gain + self.normal(width, std=0.1 * gain),
            f"{name}/bias": self.normal(width, std=0.1 * gain),
        }


def google_arrays(
    variant: str,
    num_classes: int,
    image_size: int,
    *,
    names: str = "old",
    pre_logits: bool = False,
    token: bool = True,
    groupnorm_4d: bool = False,
    **size,
) -> Arrays:
    """Returns the arrays of a Google `.npz` by its own keys.

    Args:
      variant: a key of `VIT_SIZES`.
      num_classes, image_size: of the file's model.
      names: "old", as in most published files, or "linen"; the values are the same.
      pre_logits: whether the file has the tanh layer of ImageNet-21k training.
      token: whether it has a class token; the mean-pooled files have none.
      groupnorm_4d: whether GroupNorm's parameters are (1, 1, 1, C), as in the old hybrids.
      **size: fields of `ViTSize` in place of the variant's, for a small file.
    """
    sizes, draw = VIT_SIZES[variant]._replace(**size), _Draw()
    arrays, channels, stride = {}, 3, sizes.patch_size
    if sizes.stem_sizes:
        arrays |= _stem(draw, sizes.stem_sizes)
        channels, stride = 256 * 2 ** (len(sizes.stem_sizes) - 1), stride * 2 ** (len(sizes.stem_sizes) + 1)
    width, patch, tokens = sizes.hidden_size, sizes.patch_size, (image_size // stride) ** 2 + token
    arrays |= draw.dense("embedding", (patch, patch, channels, width), patch * patch * channels, (width,), STREAM)
    arrays["Transformer/posembed_input/pos_embedding"] = draw.normal(1, tokens, width, std=STREAM)
    if token:
        arrays["cls"] = draw.normal(1, 1, width, std=STREAM)
    for layer in range(sizes.num_layers):
        arrays |= _encoder_block(draw, f"Transformer/encoderblock_{layer}", sizes)
    arrays |= draw.norm("Transformer/encoder_norm", width)
    if pre_logits:
        arrays |= draw.dense("pre_logits", (width, width), width, (width,))
    arrays |= draw.dense("head", (width, num_classes), width, (num_classes,))
    if groupnorm_4d:
        arrays = {name: a.reshape(1, 1, 1, -1) if "/gn" in f"/{name}" else a for name, a in arrays.items()}
    for old, new in LINEN_NAMES if names == "linen" else ():
        arrays = {name.replace(old, new): array for name, array in arrays.items()}
    return arrays


def _encoder_block(draw: _Draw, name: str, sizes: ViTSize) -> Arrays:
    width, heads, mlp = sizes.hidden_size, sizes.num_heads, sizes.mlp_dim
    each, attention = width // heads, f"{name}/MultiHeadDotProductAttention_1"
    arrays = draw.norm(f"{name}/LayerNorm_0", width)
    for projection in ("query", "key", "value"):
        arrays |= draw.dense(f"{attention}/{projection}", (width, heads, each), width, (heads, each))
    arrays |= draw.dense(f"{attention}/out", (heads, each, width), width, (width,), STREAM)
    arrays |= draw.norm(f"{name}/LayerNorm_2", width)
    arrays |= draw.dense(f"{name}/MlpBlock_3/Dense_0", (width, mlp), width, (mlp,), 1.5)
    return arrays | draw.dense(f"{name}/MlpBlock_3/Dense_1", (mlp, width), mlp, (width,), STREAM)


def _stem(draw: _Draw, stem_sizes: tuple[int, ...]) -> Arrays:
    arrays = {"conv_root/kernel": _standardised_later(draw, 7, 7, 3, 64)} | draw.norm("gn_root", 64)
    inputs = 64
    for stage, units in enumerate(stem_sizes):
        width = 64 * 2**stage
        for unit in range(units):
            name = f"block{stage + 1}/unit{unit + 1}"
            plan = [("conv1", "gn1", 1, inputs, width), ("conv2", "gn2", 3, width, width)]
            plan += [("conv3", "gn3", 1, width, 4 * width)]
            plan += [("conv_proj", "gn_proj", 1, inputs, 4 * width)] if unit == 0 else []
            for conv, norm, side, fan, features in plan:
                arrays[f"{name}/{conv}/kernel"] = _standardised_later(draw, side, side, fan, features)
                arrays |= draw.norm(f"{name}/{norm}", features, STEM_GAINS[norm])
            inputs = 4 * width
    return arrays


def _standardised_later(draw: _Draw, *shape: int) -> np.ndarray:
    """Returns a kernel with a mean and a deviation of 10, for the convolution to standardise.

    Google divides by std + 1e-5, timm by sqrt(var + 1e-8). At the deviation of published kernels, about 0.03, their
    logits differ by 1e-4 for that alone. Beside 10 neither epsilon shows; tests/models/test_vit.py tests Google's.
    """
    return draw.normal(*shape, std=10.0) + np.float32(5)


def big_vision_arrays(arrays: Arrays, *, prefix: str = "params/img/", stacked: bool = False) -> Arrays:
    """Returns the weights of `google_arrays(..., names="linen")` by big_vision's names.

    Its class token has no position: the row of the table is lost.

    Args:
      arrays: of a ViT without a stem.
      prefix: of every name; "params/img/" in files that have a text model too.
      stacked: whether the layers are one array with a leading axis.
    """
    result, layers = {}, {}
    for name, array in arrays.items():
        if name == "Transformer/posembed_input/pos_embedding":
            name, array = "pos_embedding", array[:, 1:] if "cls" in arrays else array
        block = re.fullmatch(r"Transformer/encoderblock_(\d+)/(.*)", name)
        if stacked and block:
            layers.setdefault(f"Transformer/encoderblock/{block[2]}", {})[int(block[1])] = array
        else:
            result[prefix + name] = array
    return result | {prefix + name: np.stack([each[i] for i in sorted(each)]) for name, each in layers.items()}


def save_google(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes a Google `.npz`; returns its path."""
    np.savez(path, **arrays)
    return str(path)


def torchvision_arrays(depth: int, num_classes: int, stage_sizes: tuple[int, ...] | None = None) -> Arrays:
    """Returns the state dict of torchvision's ResNet: its names, OIHW kernels, (out, in) classifier.

    Args:
      depth: a key of `RESNET_SIZES`.
      num_classes: width of the classifier.
      stage_sizes: units per stage in place of the depth's, for a small file.
    """
    (published_sizes, expansion), draw = RESNET_SIZES[depth], _Draw()
    stage_sizes = stage_sizes or published_sizes
    arrays = _conv_and_norm(draw, "conv1", "bn1", 3, 64, 7)
    inputs = 64
    for stage, units in enumerate(stage_sizes):
        width = 64 * 2**stage
        for unit in range(units):
            name, outputs = f"layer{stage + 1}.{unit}", width * expansion
            plan = [(inputs, width, 3), (width, width, 3)]
            if expansion == 4:
                plan = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
            for place, (fan, features, side) in enumerate(plan, start=1):
                gain = 0.3 if place == len(plan) else 1.0  # a sum of many units stays near 1
                conv, norm = f"{name}.conv{place}", f"{name}.bn{place}"
                arrays |= _conv_and_norm(draw, conv, norm, fan, features, side, gain)
            if inputs != outputs:
                arrays |= _conv_and_norm(draw, f"{name}.downsample.0", f"{name}.downsample.1", inputs, outputs, 1)
            inputs = outputs
    arrays["fc.weight"] = draw.normal(num_classes, inputs, std=inputs**-0.5)
    arrays["fc.bias"] = draw.normal(num_classes, std=0.1)
    return arrays


def _conv_and_norm(
    draw: _Draw, conv: str, norm: str, inputs: int, outputs: int, side: int, gain: float = 1.0
) -> Arrays:
    """Returns a convolution and its BatchNorm. Variances are 1e-4 to 1: an epsilon of 1e-5 shows beside 1e-4."""
    # In float64, because the last bit of NumPy's float32 power depends on the processor.
    std = (10 ** draw.rng.uniform(-2, 0, outputs)).astype(np.float32)
    kernel = draw.normal(outputs, inputs, side, side, std=(2 / (inputs * side * side)) ** 0.5)
    return {
        f"{conv}.weight": kernel * std[:, None, None, None],
        f"{norm}.weight": gain + draw.normal(outputs, std=0.2 * gain),
        f"{norm}.bias": draw.normal(outputs, std=0.1),
        f"{norm}.running_mean": draw.normal(outputs, std=0.3) * std,
        f"{norm}.running_var": std**2,
        f"{norm}.num_batches_tracked": np.array(1000),
    }


def random_images(batch: int, image_size: int) -> np.ndarray:
    """Returns (batch, S, S, 3) float32 images, normalised to mean 0 and variance 1."""
    return np.random.default_rng(1000).standard_normal((batch, image_size, image_size, 3), np.float32)


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference of two arrays of the same shape over the largest value of the second."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape and np.abs(theirs).max() > 0, (ours.shape, theirs.shape)
    return np.abs(ours - theirs).max() / np.abs(theirs).max()
