"""Dropout whose mask belongs to the example, not to the device that holds it."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
    """Dropout that draws an example's mask from its place in the global batch.

    `flax.linen.Dropout` draws one mask for the whole local batch, so a run on 8 devices would differ from
    the same run on one. Folding the position into the key makes the draw independent of the devices.

    Attributes:
      rate: probability of setting an activation to zero, in [0, 1).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None = None) -> jax.Array:
        """Returns `x` (batch, ...) with dropped activations, scaled by 1 / (1 - rate) when training.

        Args:
          x: (batch, ...) activations.
          train: whether to drop; False returns `x`.
          positions: (batch,) int32 place of each example in the global batch; None counts from 0.
        """
        if not train or self.rate == 0.0:
            return x
        if positions is None:
            positions = jnp.arange(x.shape[0])
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("dropout"), positions)
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros_like(x))
