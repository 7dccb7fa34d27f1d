"""The patch embedding of the models that have timm's names."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import convolve


class PatchEmbedding(nn.Module):
    """A linear map of each patch, with PyTorch's default start."""

    width: int
    patch_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns (batch, patches, width) tokens of (batch, S, S, C) images, row by row, in the compute dtype."""
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(
            self.width, patch, strides=patch, padding="VALID", dtype=self.dtype, name="proj",
            conv_general_dilated=convolve, **pytorch_default(self.patch_size**2 * images.shape[-1]),
        )(images.astype(self.dtype))  # fmt: skip
        return x.reshape(x.shape[0], -1, self.width)
