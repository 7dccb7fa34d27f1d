"""Dropout whose mask belongs to the example, not to the device that holds it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.models.kernels.dropout import draw_mask


class Dropout(nn.Module):
    """Dropout that draws an example's mask from its place in the global batch.

    `flax.linen.Dropout` draws one mask for the whole local batch, so that a run on eight devices would differ from the
    same run on one. Here the place is folded into the key, and the mask does not depend on the devices.

    Attributes:
      rate: probability of setting an activation to zero, in [0, 1).
    """

    rate: float

    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None = None) -> jax.Array:
        """Returns `x` (batch, ...) with dropped activations, scaled by 1 / (1 - rate) when training.

        Args:
          x: (batch, ...) activations.
          train: whether to drop; False returns `x`.
          positions: (batch,) int32 place of each example in the global batch; None counts from 0.
        """
        if not train or self.rate == 0.0:
            return x
        mask = self.draw_mask(x.shape, positions)
        return jnp.where(mask, x / (1.0 - self.rate), jnp.zeros_like(x))

    def draw_mask(self, shape: tuple[int, ...], positions: jax.Array | None = None) -> jax.Array:
        """Returns a bool mask of (batch, ...) activations, False where they are dropped."""
        if positions is None:
            positions = jnp.arange(shape[0])
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("dropout"), positions)
        return draw_mask(keys, self.rate, shape[1:])


class StochasticDepth(Dropout):
    """Leaves out a residual branch of whole examples (Huang et al., 2016, arXiv:1603.09382).

    Attributes:
      rate: probability of leaving the branch out, in [0, 1).
    """

    def draw_mask(self, shape: tuple[int, ...], positions: jax.Array | None = None) -> jax.Array:
        """Returns a (batch, 1, ...) bool mask with as many axes as `shape`, False where the branch is left out."""
        return super().draw_mask((shape[0], *[1] * (len(shape) - 1)), positions)


def depth_rates(rate: float, num_layers: int) -> list[float]:
    """Returns the rates of stochastic depth by layer: linearly from 0 to `rate` in the last one."""
    return [rate * layer / max(num_layers - 1, 1) for layer in range(num_layers)]
