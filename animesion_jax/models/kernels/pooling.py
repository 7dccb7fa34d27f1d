"""2x2 max-pooling: Flax's own, and one that keeps the places of the maxima for its gradient."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def max_pool(x: jax.Array) -> jax.Array:
    """Returns `kernels.max_pool`."""
    return nn.max_pool(x, (2, 2), strides=(2, 2))


@jax.custom_vjp
def max_pool_by_places(x: jax.Array) -> jax.Array:
    """Returns `max_pool`, whose gradient goes to the place that was the largest in the forward pass.

    JAX's gradient of `jnp.maximum` compares the numbers again in the backward pass. If the compiler recomputes the
    input and rounds it differently, no number compares equal and the gradient is lost: half of it in unoptimized
    programs.
    """
    return _max_and_place(x)[0]


def _max_and_place(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the maxima and their int8 places 0 to 3 in the window, row by row; the first of equal numbers."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    a, b, c, d = (windows[:, :, place // 2, :, place % 2] for place in range(4))
    upper, lower = jnp.maximum(a, b), jnp.maximum(c, d)
    place = jnp.where(lower > upper, 2 + (d > c).astype(jnp.int8), (b > a).astype(jnp.int8))
    return jnp.maximum(upper, lower), place


def _forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    maxima, place = _max_and_place(x)
    # The shape of the empty array tells the backward pass whether a row or column was left out.
    return maxima, (place, x[:0, :, :, :0])


def _backward(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array]:
    place, like = residuals
    places = jnp.arange(4, dtype=place.dtype).reshape(2, 1, 2, 1)
    windows = jnp.where(place[:, :, None, :, None] == places, gradient[:, :, None, :, None], 0)
    batch, height, _, width, _, channels = windows.shape
    odd = like.shape[1] - 2 * height, like.shape[2] - 2 * width
    x = windows.reshape(batch, 2 * height, 2 * width, channels)
    return (jnp.pad(x, ((0, 0), (0, odd[0]), (0, odd[1]), (0, 0))),)


max_pool_by_places.defvjp(_forward, _backward)
