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

    def __call__(self, x: jax.Array, train: bool, positions: jax.Array | None = None) -> jax.Array:
        """Returns `x` (batch, ...) with dropped activations, scaled by 1 / (1 - rate) when training.

        Args:
          x: (batch, ...) activations.
          train: whether to drop; False returns `x`.
          positions: (batch,) int32 place of each example in the global batch; None counts from 0.
        """
        return drop(x, self.draw_kept(x.shape, train, positions), self.rate)

    def draw_kept(self, shape: tuple[int, ...], train: bool, positions: jax.Array | None = None) -> jax.Array | None:
        """Returns the mask of what `drop` keeps of (batch, ...) activations; None where that is all."""
        if not train or self.rate == 0.0:
            return None
        if positions is None:
            positions = jnp.arange(shape[0])
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("dropout"), positions)
        return _draw_kept(keys, self.rate, shape[1:])


def drop(x: jax.Array, kept: jax.Array | None, rate: float) -> jax.Array:
    """Returns `x` / (1 - rate) where `kept` is True, else 0; `x` itself where `kept` is None."""
    return x if kept is None else jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def _draw_kept(keys: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """Returns a (batch, *shape) bool mask that is False with probability `rate`, each example's from its own key.

    A random byte decides, not four: making random bits is what dropout costs. The byte is compared with 256 * rate,
    which is rounded up or down at random, once for each example, so that the probability is `rate` to 2**-24.
    """
    # The four bytes of a word go to four parts of the first axis: as an axis of their own TPUs would pad them to 128.
    drawn_shape = (-(-shape[0] // 4), *shape[1:])
    words = jax.vmap(lambda key: jax.random.bits(key, drawn_shape))(keys)
    rounding = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 0)))(keys)
    limits = jnp.floor(256 * rate + rounding).astype(jnp.uint32).reshape(-1, *[1] * len(shape))
    # Else XLA may make a word anew for each of its four bytes, in the forward and in the backward pass.
    words, limits = jax.lax.optimization_barrier((words, limits))
    drawn = jnp.concatenate([words >> shift & 255 for shift in (0, 8, 16, 24)], axis=1)
    return drawn[:, : shape[0]] >= limits
