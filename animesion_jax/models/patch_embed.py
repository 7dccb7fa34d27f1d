"""The patch embedding of the models with timm's names."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import convolve


class PatchEmbed(nn.Module):
    """A linear map of each square patch of an image, initialised like PyTorch's convolutions.

    Attributes:
      patch_size: side of a patch in pixels.
      hidden_size: width of the tokens.
      dtype: compute dtype.
    """

    patch_size: int
    hidden_size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns the (batch, patches, hidden) tokens of (batch, S, S, 3) images."""
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(
            self.hidden_size, patch, strides=patch, padding="VALID", dtype=self.dtype, name="proj",
            conv_general_dilated=convolve, **pytorch_default(self.patch_size**2 * images.shape[-1]),
        )(images.astype(self.dtype))  # fmt: skip
        return x.reshape(x.shape[0], -1, self.hidden_size)
