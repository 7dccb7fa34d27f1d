"""PyTorch's default initialisation of layers."""

from typing import Any

import jax
import jax.numpy as jnp


def pytorch_default(inputs: int) -> dict[str, Any]:
    """Returns PyTorch's default initialisers of Linear and Conv2d, as arguments of a Flax layer.

    Kernel and bias are uniform in +-1 / sqrt(inputs), PyTorch's kaiming_uniform with a = sqrt(5).

    Args:
      inputs: fan-in, the inputs per output; height * width * channels for a convolution.

    Returns:
      The arguments `kernel_init` and `bias_init`.
    """

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -(inputs**-0.5), inputs**-0.5)

    return {"kernel_init": draw, "bias_init": draw}
