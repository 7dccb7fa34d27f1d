"""Heat maps of a classifier's evidence: attention rollout for transformers, Grad-CAM for convolutional networks."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from scipy.interpolate import CubicSpline

from animesion_jax.bundle import Bundle
from animesion_jax.inference.forward import apply_to_pixels, character_logits
from animesion_jax.models import Rollout, family_of
from animesion_jax.models.kernels.attention import DotProduct
from animesion_jax.preprocessing import canvas

# Every 17th of the 256 colours of Turbo (Mikhailov, 2019, "Turbo, An Improved Rainbow Colormap for Visualization").
TURBO = (
    "30123b 4143a7 4771e9 3e9bfe 22c5e2 1ae4b6 46f884 88ff4e b9f635 e1dd37 faba39 fd8d27 f05b12 d63506 af1801 7a0403"
)
# Opacity of the colour where the map is 1; it is 0 where the map is 0.
OPACITY = 0.6
# Longest side of an overlay in pixels; a map is much coarser.
MAX_OVERLAY_SIDE = 1024

# Runs a model once and returns (batch, characters) logits.
Forward = Callable[[], jax.Array]


def rollout(method: Rollout, model: nn.Module, forward: Forward) -> tuple[jax.Array, jax.Array]:
    """Returns the logits, and a map of how much attention each patch gets through all layers.

    Attention rollout (Abnar and Zuidema, 2020, arXiv:2005.00928): averages attention over heads, mixes it half and half
    with the identity for the residual connection, and multiplies the layers. The map is the row of the class token, or
    the mean of the patches' rows for classifiers on the mean of the patches.

    Args:
      method: of the model's family.
      model: a module of the family.
      forward: runs the model on (batch, S, S, 3) images.

    Returns:
      (batch, characters) logits and a (batch, grid, grid) float32 map of values from 0.
    """
    weights: dict[str, jax.Array] = {}

    def keep(call: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        if isinstance(context.module, DotProduct) and context.method_name == "__call__":
            weights["/".join(context.module.path)] = _weights(context.module.tokens, *arguments, **options)
        return call(*arguments, **options)

    with nn.intercept_methods(keep):
        logits = forward()
    flow = None
    for layer in method.layers(model):
        mean = weights[layer].mean(1)
        mixed = 0.5 * mean + 0.5 * jnp.eye(mean.shape[-1])
        flow = mixed if flow is None else mixed @ flow
    first = method.num_prefix_tokens(model)
    patches = flow[:, 0, first:] if method.sees_class_token(model) else flow[:, first:, first:].mean(1)
    grid = round(patches.shape[-1] ** 0.5)
    return logits, patches.reshape(-1, grid, grid)


def _weights(
    tokens: int, query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    """Returns (batch, heads, tokens, tokens) float32 weights; tokens after the first `tokens` are padding."""
    query, key = query[:, :tokens], key[:, :tokens]
    return nn.dot_product_attention_weights(query, key, bias=bias, force_fp32_for_softmax=True).astype(jnp.float32)


def grad_cam(features: str, forward: Forward, class_ids: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the logits, and a map of the last convolutional features in favour of a character.

    Grad-CAM (Selvaraju et al., 2017, arXiv:1610.02391): weights each channel by the mean of the gradient of the
    character's logit over the image, sums the channels and clips negative values.

    Args:
      features: path of the model's last module with a (batch, H, W, channels) output.
      forward: runs the model on (batch, S, S, 3) images.
      class_ids: (batch,) integers; None for the likeliest character of each image.

    Returns:
      (batch, characters) logits and a (batch, H, W) float32 map of values from 0.
    """

    def forward_with(added: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        captured = None

        def add(method: Callable, arguments: tuple, options: dict, context: Any) -> Any:
            nonlocal captured
            result = method(*arguments, **options)
            if "/".join(context.module.path) == features and context.method_name == "__call__":
                captured = result = result + added
            return result

        with nn.intercept_methods(add):
            logits = forward()
        return logits, captured

    shape = jax.eval_shape(forward_with, 0.0)[1]
    logits, backward, captured = jax.vjp(forward_with, jnp.zeros(shape.shape, shape.dtype), has_aux=True)
    if class_ids is None:
        class_ids = logits.argmax(-1)
    (gradient,) = backward(jax.nn.one_hot(class_ids, logits.shape[-1], dtype=logits.dtype))
    weights = gradient.astype(jnp.float32).mean((1, 2), keepdims=True)
    # The features of ShallowNet need the inner ReLU, because they come before its own.
    return logits, nn.relu((weights * nn.relu(captured.astype(jnp.float32))).sum(-1))


class Explainer:
    """Computes probabilities and heat maps of a bundle's model; compiled once.

    Attributes:
      bundle: the bundle.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self._variables = jax.device_put(bundle.variables)
        self._method = family_of(bundle.description["name"]).explain

        def explain(
            variables: dict[str, Any], images: jax.Array, class_ids: jax.Array | None
        ) -> tuple[jax.Array, jax.Array]:
            def forward() -> jax.Array:
                return character_logits(bundle, *apply_to_pixels(bundle, variables, images))

            if self.uses_attention:
                logits, maps = rollout(self._method, bundle.model, forward)
            else:
                logits, maps = grad_cam(self._method.features(bundle.model), forward, class_ids)
            maximum = maps.max((1, 2), keepdims=True)
            return jax.nn.softmax(logits), maps / jnp.where(maximum > 0, maximum, 1.0)

        self._explain = jax.jit(explain)

    @property
    def uses_attention(self) -> bool:
        """Whether the maps show attention, which is the same for every class."""
        return isinstance(self._method, Rollout)

    def explain(self, image: np.ndarray, class_id: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image's probabilities and the heat map of one character.

        Args:
          image: (S, S, 3) uint8, S the bundle's image size.
          class_id: index of the character in `bundle.names`; None for the likeliest. Attention maps ignore it.

        Returns:
          (characters,) float32 probabilities of `bundle.names`, and an (H, W) float32 map in [0, 1] whose largest value
          is 1, or which is 0 everywhere.
        """
        class_ids = None if class_id is None else jnp.asarray([class_id])
        probabilities, maps = self._explain(self._variables, image[None], class_ids)
        return np.asarray(probabilities[0]), np.asarray(maps[0])


def colour(values: np.ndarray) -> np.ndarray:
    """Returns Turbo's colours of (H, W) values in [0, 1] as (H, W, 3) floats, red, green and blue in 0 to 255."""
    table = np.frombuffer(bytes.fromhex(TURBO), np.uint8).reshape(-1, 3)
    return CubicSpline(np.linspace(0, 1, len(table)), table)(values).clip(0, 255)


def overlay(image: Image.Image, heat: np.ndarray, fit: str) -> Image.Image:
    """Returns an RGB image, sides at most `MAX_OVERLAY_SIDE`, under its part of the model's (H, W) map in [0, 1]."""
    width, height, left, top = canvas(*image.size, fit)
    x, y = heat.shape[1] / width, heat.shape[0] / height
    box = (left * x, top * y, (left + image.width) * x, (top + image.height) * y)
    image = image.convert("RGB")
    image.thumbnail((MAX_OVERLAY_SIDE, MAX_OVERLAY_SIDE))
    heat = np.asarray(Image.fromarray(np.float32(heat)).resize(image.size, Image.Resampling.BICUBIC, box)).clip(0, 1)
    opacity = OPACITY * heat[..., None]
    blended = (1 - opacity) * np.asarray(image, np.float32) + opacity * colour(heat)
    return Image.fromarray(np.rint(blended).astype(np.uint8))
