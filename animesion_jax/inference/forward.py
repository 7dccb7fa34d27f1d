"""Pure functions from images to a bundle's logits, embeddings and probabilities."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.bundle import Bundle
from animesion_jax.models import HEAD
from animesion_jax.preprocessing import normalize

Variables = dict[str, Any]
# Lower bound of squared norms: features that are all 0 have the embedding 0.
MIN_SQUARED_NORM = 1e-30


def logits_and_embeddings(model: nn.Module, variables: Variables, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (batch, classes) logits and (batch, features) embeddings, float32.

    The embedding is the input of the classifier's last layer, scaled to unit norm.

    Args:
      model: from `create_model`.
      variables: of the model.
      images: (batch, S, S, 3) float32, normalised.
    """
    features = None

    def keep(method: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        nonlocal features
        if context.module.name == HEAD and context.method_name == "__call__":
            features = arguments[0].astype(jnp.float32)
        return method(*arguments, **options)

    with nn.intercept_methods(keep):
        logits = model.apply(variables, images)
    squares = jnp.sum(features * features, axis=-1, keepdims=True)
    return logits, features * jax.lax.rsqrt(jnp.maximum(squares, MIN_SQUARED_NORM))


def apply_to_pixels(bundle: Bundle, variables: Variables, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the logits and embeddings of (batch, S, S, 3) uint8 images, computed with the given variables."""
    return logits_and_embeddings(bundle.model, variables, normalize(images, bundle.mean, bundle.std))


def character_logits(bundle: Bundle, logits: jax.Array, embeddings: jax.Array | None) -> jax.Array:
    """Returns the (batch, characters) logits of `bundle.names`: divided by the temperature, enrolled ones added.

    Args:
      bundle: its calibration and enrolled characters are used.
      logits: (batch, classes).
      embeddings: (batch, features) of unit norm; may be None if the bundle has no enrolled characters.
    """
    calibration, enrolled = bundle.calibration, bundle.enrolled
    if calibration:
        logits = logits / calibration.temperature
    if enrolled:
        similarities = embeddings @ enrolled.embeddings.T
        logits = jnp.concatenate([logits, calibration.scale * similarities + calibration.offset], axis=-1)
    return logits


def character_probabilities(bundle: Bundle, variables: Variables, images: jax.Array) -> jax.Array:
    """Returns the (batch, characters) float32 probabilities of `bundle.names` for (batch, S, S, 3) uint8 images."""
    return jax.nn.softmax(character_logits(bundle, *apply_to_pixels(bundle, variables, images)))
