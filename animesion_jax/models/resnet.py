"""ResNet (He et al., 2015, arXiv:1512.03385) as in torchvision, whose ImageNet weights fit.

This is v1.5: a bottleneck strides in its 3x3 convolution. Modules have torchvision's names, with `layer1_0` for
`layer1.0`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.batch_norm import make_batch_norm
from animesion_jax.models.dropout import Dropout
from animesion_jax.models.family import HEAD, Family, GradCam, Shapes, count_units
from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import convolve, relu

# Units per stage, by depth: arXiv:1512.03385 table 1, and 10 of Simon et al., 2016, arXiv:1612.01452.
SIZES = {
    10: {"stage_sizes": (1, 1, 1, 1), "bottleneck": False},
    18: {"stage_sizes": (2, 2, 2, 2), "bottleneck": False},
    34: {"stage_sizes": (3, 4, 6, 3), "bottleneck": False},
    50: {"stage_sizes": (3, 4, 6, 3), "bottleneck": True},
    101: {"stage_sizes": (3, 4, 23, 3), "bottleneck": True},
    152: {"stage_sizes": (3, 8, 36, 3), "bottleneck": True},
}

# Of the convolutions: torchvision's, and that of the paper's runs from scratch.
INITIALIZERS = {
    "he": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "xavier": nn.initializers.xavier_uniform(),
}


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3 and 1x1 in a bottleneck, beside a shortcut.

    Attributes:
      width: channels of the inner convolutions; a bottleneck has four times as many outputs.
      stride: of the first 3x3 convolution and of the shortcut.
      bottleneck: whether to use the three convolutions.
      conv, norm: constructors of the layers.
    """

    width: int
    stride: int
    bottleneck: bool
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns (batch, H / stride, W / stride, width or 4 * width) for (batch, H, W, channels)."""
        strides = (self.stride, self.stride)
        three = partial(self.conv, kernel_size=(3, 3), padding=1)
        one = partial(self.conv, kernel_size=(1, 1))
        if self.bottleneck:
            layers = (
                one(self.width, name="conv1"),
                three(self.width, strides=strides, name="conv2"),
                one(4 * self.width, name="conv3"),
            )
        else:
            layers = (three(self.width, strides=strides, name="conv1"), three(self.width, name="conv2"))
        y = x
        for place, layer in enumerate(layers, start=1):
            y = self.norm(name=f"bn{place}")(layer(y))
            if place < len(layers):
                y = relu(y)
        if x.shape != y.shape:
            x = one(y.shape[-1], strides=strides, name="downsample_conv")(x)
            x = self.norm(name="downsample_bn")(x)
        return relu(x + y)


class ResNet(nn.Module):
    """A 7x7 stem, four stages of residual units, the mean over the image, a linear classifier.

    The classifier has PyTorch's default initialiser. Padding is symmetric as in PyTorch, not SAME. BatchNorm has
    epsilon 1e-5 and momentum 0.9. Parameters, statistics and logits are float32 for any compute dtype.

    Attributes:
      num_classes: width of the classifier.
      stage_sizes, bottleneck: see `SIZES`.
      initializer: a key of `INITIALIZERS`.
      dropout_rate: dropout before the classifier; 0 in torchvision and in the paper.
      dtype: compute dtype.
      axis_name: pmap axis over which BatchNorm takes its training statistics; None for one device.
    """

    min_image_size: ClassVar[int] = 32
    image_multiple: ClassVar[int] = 1

    num_classes: int
    stage_sizes: Sequence[int]
    bottleneck: bool
    initializer: str = "he"
    dropout_rate: float = 0.0
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, positions: jax.Array | None = None) -> jax.Array:
        """Returns (batch, num_classes) float32 logits of normalised (batch, S, S, 3) images."""
        init = INITIALIZERS[self.initializer]
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype, kernel_init=init, conv_general_dilated=convolve)
        norm = make_batch_norm(self, train)
        x = conv(64, (7, 7), strides=(2, 2), padding=3, name="conv1")(images.astype(self.dtype))
        x = relu(norm(name="bn1")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))  # pads with -inf
        for stage, units in enumerate(self.stage_sizes):
            for unit in range(units):
                stride = 2 if stage and not unit else 1
                name = f"layer{stage + 1}_{unit}"
                x = ResidualUnit(64 * 2**stage, stride, self.bottleneck, conv, norm, name=name)(x)
        x = x.astype(jnp.float32).mean((1, 2))
        x = Dropout(self.dropout_rate)(x, train, positions)
        return nn.Dense(self.num_classes, dtype=jnp.float32, name=HEAD, **pytorch_default(x.shape[-1]))(x)


def _identify(shapes: Shapes) -> str | None:
    """Returns "resnet50" for its arrays, a description for those of an unpublished size, None for other models."""
    if "params/conv1/kernel" not in shapes or "params/layer1_0/conv1/kernel" not in shapes:
        return None
    size = {
        "stage_sizes": count_units(shapes, r"params/layer(\d+)_(\d+)/"),
        "bottleneck": "params/layer1_0/conv3/kernel" in shapes,
    }
    depth = next((depth for depth, published in SIZES.items() if published == size), None)
    return f"resnet{depth}" if depth else f"a ResNet of {size}"


FAMILY = Family(
    name="resnet",
    models={f"resnet{depth}": partial(ResNet, **size) for depth, size in SIZES.items()},
    options={"initializer": tuple(INITIALIZERS)},
    dropout_rate=0.0,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    optimizer="sgd",
    has_batch_norm=True,
    explain=GradCam(features=lambda model: f"layer{len(model.stage_sizes)}_{model.stage_sizes[-1] - 1}"),
    # torchvision has no ResNet-10.
    weights={f"resnet{depth}": f"timm/resnet{depth}.tv_in1k" for depth in SIZES if depth > 10},
    paper_trainable="head",
    has_torchvision_names=True,
    identify=_identify,
)
