"""ShallowNet, the LeNet-like five-layer baseline of the DAF:re paper."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.batch_norm import make_batch_norm
from animesion_jax.models.dropout import Dropout
from animesion_jax.models.family import HEAD, Family, GradCam
from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import max_pool, relu

# Xavier's, and that of the paper's runs. docs/recipes.md compares them.
INITIALIZERS = {
    "xavier": lambda inputs: {"kernel_init": nn.initializers.xavier_uniform()},
    "pytorch": pytorch_default,
}


class ShallowNet(nn.Module):
    """Two convolutions (unpadded, BatchNorm, ReLU, 2x2 max-pool) and two dense layers.

    Source: the released code behind Tables 3 and 4 of the DAF:re paper, which ran only at 224 px; this one takes any
    size from 16 px. Parameters are float32 for any compute dtype.

    Attributes:
      num_classes: width of the classifier.
      features: channels of the two convolutions.
      hidden_size: width of the first dense layer.
      initializer: a key of `INITIALIZERS`, for all layers.
      dropout_rate: dropout before the classifier.
      dtype: compute dtype; logits are float32.
      axis_name: pmap axis over which BatchNorm takes its training statistics; None for one device.
    """

    # A shorter side leaves nothing after two unpadded 5x5 convolutions and poolings.
    min_image_size: ClassVar[int] = 16
    image_multiple: ClassVar[int] = 1

    num_classes: int
    features: Sequence[int] = (16, 32)
    hidden_size: int = 512
    initializer: str = "xavier"
    dropout_rate: float = 0.2
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, positions: jax.Array | None = None) -> jax.Array:
        """Returns (batch, num_classes) float32 logits of normalised (batch, S, S, 3) images."""
        x = images.astype(self.dtype)
        norm, init = make_batch_norm(self, train), INITIALIZERS[self.initializer]
        for width in self.features:
            x = nn.Conv(width, (5, 5), padding="VALID", dtype=self.dtype, **init(5 * 5 * x.shape[-1]))(x)
            x = norm()(x)
            x = relu(max_pool(x))  # max-pooling and ReLU commute; this order costs a quarter
        x = x.reshape(x.shape[0], -1)
        x = relu(nn.Dense(self.hidden_size, dtype=self.dtype, **init(x.shape[-1]))(x))
        x = Dropout(self.dropout_rate)(x, train, positions)
        head = nn.Dense(self.num_classes, dtype=jnp.float32, name=HEAD, **init(x.shape[-1]))
        return head(x.astype(jnp.float32))


FAMILY = Family(
    name="shallownet",
    models={"shallownet": ShallowNet},
    options={"initializer": tuple(INITIALIZERS)},
    dropout_rate=0.2,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    optimizer="sgd",
    has_batch_norm=True,
    explain=GradCam(features=lambda model: f"BatchNorm_{len(model.features) - 1}"),
    identify=lambda shapes: "shallownet" if "params/Conv_0/kernel" in shapes else None,
)
