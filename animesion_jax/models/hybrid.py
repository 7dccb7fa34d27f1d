"""The ResNet stem of Google's hybrids such as R50+ViT-B/16: weight-standardised convolutions and GroupNorm.

Sources: arXiv:2010.11929, section 3.1 and appendix; Kolesnikov et al., 2019, arXiv:1912.11370. Modules have the names
of Google's checkpoints.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.kernels import convolve, relu

GROUPS = 32
EPSILON = 1e-6


class StdConv(nn.Module):
    """A convolution without bias whose kernel is standardised over height, width and inputs at every use.

    Attributes:
      features: output channels.
      size: side of the kernel in pixels.
      stride: in pixels; padding is SAME.
      dtype: compute dtype; the kernel is float32 and standardised in float32.
    """

    features: int
    size: int
    stride: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns (batch, ceil(H / stride), ceil(W / stride), features) for (batch, H, W, channels)."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = (kernel - kernel.mean((0, 1, 2))) / (kernel.std((0, 1, 2)) + 1e-5)
        return convolve(
            x, kernel.astype(self.dtype), (self.stride, self.stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


class StemUnit(nn.Module):
    """A bottleneck unit: 1x1, 3x3 and 1x1 convolutions beside a shortcut, which is projected if the shape changes."""

    width: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns (batch, H / stride, W / stride, 4 * width)."""
        y = x
        plan = ((self.width, 1, 1), (self.width, 3, self.stride), (4 * self.width, 1, 1))
        for place, (features, size, stride) in enumerate(plan, start=1):
            y = StdConv(features, size, stride, self.dtype, name=f"conv{place}")(y)
            # The last scale is zero, so that a new unit is the identity.
            scale_init = nn.initializers.zeros if place == 3 else nn.initializers.ones
            y = nn.GroupNorm(
                num_groups=GROUPS, epsilon=EPSILON, dtype=self.dtype, scale_init=scale_init, name=f"gn{place}"
            )(y)
            if place < 3:
                y = relu(y)
        if x.shape != y.shape:
            x = StdConv(4 * self.width, 1, self.stride, self.dtype, name="conv_proj")(x)
            x = nn.GroupNorm(num_groups=GROUPS, epsilon=EPSILON, dtype=self.dtype, name="gn_proj")(x)
        return relu(x + y)


class StemStage(nn.Module):
    """The units of one stage; the first one strides."""

    units: int
    width: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns (batch, H / stride, W / stride, 4 * width)."""
        for unit in range(self.units):
            stride = self.stride if unit == 0 else 1
            x = StemUnit(self.width, stride, self.dtype, name=f"unit{unit + 1}")(x)
        return x


def stem_stride(stage_sizes: Sequence[int]) -> int:
    """Returns the stride of the stem's output in pixels of the image; 1 without a stem."""
    return 2 ** (len(stage_sizes) + 1) if stage_sizes else 1


def apply_stem(x: jax.Array, stage_sizes: Sequence[int], dtype: jnp.dtype) -> jax.Array:
    """Returns the (batch, H / stride, W / stride, 32 * 2**stages) features of normalised (batch, H, W, 3) images.

    Call it in a compact method: its layers become children of the caller, as in Google's checkpoints.
    """
    x = StdConv(64, 7, 2, dtype, name="conv_root")(x)
    x = relu(nn.GroupNorm(num_groups=GROUPS, epsilon=EPSILON, dtype=dtype, name="gn_root")(x))
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
    for stage, units in enumerate(stage_sizes):
        x = StemStage(units, 64 * 2**stage, 2 if stage else 1, dtype, name=f"block{stage + 1}")(x)
    return x
