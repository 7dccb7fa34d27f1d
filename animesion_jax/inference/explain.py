"""What a classifier looked at: attention rollout for transformers, Grad-CAM for convolutional networks."""

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from PIL import Image

from animesion_jax.bundle import Bundle
from animesion_jax.errors import InputError
from animesion_jax.files import replacing
from animesion_jax.images import EXPLAINED, read_image
from animesion_jax.inference.forward import character_logits, of_pixels
from animesion_jax.models import Rollout, family_of
from animesion_jax.preprocessing import resize

COLORMAP = "turbo"
# Of the colour where the map is hottest; a cold place shows the image as it is.
OPACITY = 0.6
# Longer sides are scaled down to it: no more can be told apart.
MAX_OVERLAY_SIDE = 1024
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)

Variables = dict[str, Any]
# Runs a model once, and returns (batch, characters) logits.
Forward = Callable[[], jax.Array]


def rollout(layers: Sequence[str], has_class_token: bool, forward: Forward) -> tuple[jax.Array, jax.Array]:
    """Returns the logits, and how far attention carries each patch to the classifier.

    Attention rollout (Abnar and Zuidema, 2020, arXiv:2005.00928): the product over the layers of the mean of the heads'
    attention, half of it the residual connection; then the row of the class token, or the mean of all rows where the
    classifier takes the mean of the patches.

    Args:
      layers: paths of the attention modules in the model that `forward` runs, from the first to the last.
      has_class_token: whether the classifier sees the first token instead of the mean of all.
      forward: of (batch, S, S, 3) images.

    Returns:
      (batch, characters) logits and a (batch, grid, grid) float32 map, not negative.
    """
    seen: dict[str, jax.Array] = {}

    def keep(method: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        result = method(*arguments, **options)
        if context.module.name in ("query", "key") and context.method_name == "__call__":
            seen["/".join(context.module.path)] = result
        return result

    with nn.intercept_methods(keep):
        logits = forward()
    flow = None
    for layer in layers:
        query, key = seen[f"{layer}/query"], seen[f"{layer}/key"]
        weights = nn.dot_product_attention_weights(query, key, force_fp32_for_softmax=True)
        weights = weights.astype(jnp.float32).mean(1)
        mixed = 0.5 * weights + 0.5 * jnp.eye(weights.shape[-1])
        flow = mixed if flow is None else mixed @ flow
    patches = flow[:, 0, 1:] if has_class_token else flow.mean(1)
    grid = round(patches.shape[-1] ** 0.5)
    return logits, patches.reshape(-1, grid, grid)


def grad_cam(features: str, forward: Forward, class_ids: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Returns the logits, and where the last convolutional features speak for a character.

    Grad-CAM (Selvaraju et al., 2017, arXiv:1610.02391): the features, weighted by the mean over the image of the
    gradient of the character's logit, summed over the channels; what speaks against it is cut off.

    Args:
      features: path of the module in the model that `forward` runs, whose output has places on the image.
      forward: of (batch, S, S, 3) images.
      class_ids: (batch,) integers, of the logits; None for the likeliest of each image.

    Returns:
      (batch, characters) logits and a (batch, H, W) float32 map, not negative.
    """

    def forward_with(added: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        seen = None

        def add(method: Callable, arguments: tuple, options: dict, context: Any) -> Any:
            nonlocal seen
            result = method(*arguments, **options)
            if "/".join(context.module.path) == features and context.method_name == "__call__":
                seen = result = result + added
            return result

        with nn.intercept_methods(add):
            logits = forward()
        return logits, seen

    shape = jax.eval_shape(forward_with, 0.0)[1]
    logits, backward, seen = jax.vjp(forward_with, jnp.zeros(shape.shape, shape.dtype), has_aux=True)
    if class_ids is None:
        class_ids = logits.argmax(-1)
    (gradient,) = backward(jax.nn.one_hot(class_ids, logits.shape[-1], dtype=logits.dtype))
    weights = gradient.astype(jnp.float32).mean((1, 2), keepdims=True)
    # ShallowNet's features are taken before their ReLU, a ResNet's are not negative anyway.
    return logits, nn.relu((weights * nn.relu(seen.astype(jnp.float32))).sum(-1))


class Explainer:
    """Draws maps of what a bundle's model looks at, beside the probabilities that `predict` tells; compiled once.

    Attributes:
      bundle: the model and what belongs to it.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self._variables = jax.device_put(bundle.variables)
        self._method = family_of(bundle.description["name"]).explain

        def explain(
            variables: Variables, images: jax.Array, class_ids: jax.Array | None
        ) -> tuple[jax.Array, jax.Array]:
            def forward() -> jax.Array:
                return character_logits(bundle, *of_pixels(bundle, variables, images))

            if self.follows_attention:
                layers, token = self._method.layers(bundle.model), self._method.has_class_token(bundle.model)
                logits, maps = rollout(layers, token, forward)
            else:
                logits, maps = grad_cam(self._method.features(bundle.model), forward, class_ids)
            most = maps.max((1, 2), keepdims=True)
            return jax.nn.softmax(logits), maps / jnp.where(most > 0, most, 1.0)

        self._explain = jax.jit(explain)

    @property
    def follows_attention(self) -> bool:
        """Whether maps are of attention, the same whatever the class; otherwise they are of one class."""
        return isinstance(self._method, Rollout)

    def explain(self, image: np.ndarray, class_id: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image's probabilities and the map of what speaks for one of the characters.

        Args:
          image: (S, S, 3) uint8, S the bundle's image size.
          class_id: place among `bundle.names` of the character that the map is for; None for the likeliest. A
            transformer's is the same for all.

        Returns:
          (characters,) float32 probabilities of `bundle.names`, and an (H, W) float32 map with its largest value 1, or
          0 where nothing speaks for the character.
        """
        class_ids = None if class_id is None else jnp.asarray([class_id])
        probabilities, maps = self._explain(self._variables, image[None], class_ids)
        return np.asarray(probabilities[0]), np.asarray(maps[0])


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """Returns an RGB image with an (H, W) map in [0, 1] laid over it, sides at most `MAX_OVERLAY_SIDE` pixels."""
    image = image.convert("RGB")
    image.thumbnail((MAX_OVERLAY_SIDE, MAX_OVERLAY_SIDE))
    heat = np.asarray(Image.fromarray(np.float32(heat)).resize(image.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colours = 255 * matplotlib.colormaps[COLORMAP](heat)[..., :3]
    opacity = OPACITY * heat[..., None]
    blended = (1 - opacity) * np.asarray(image, np.float32) + opacity * colours
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def explain_files(
    explainer: Explainer, files: Sequence[Path], class_name: str | None = None, output: str | None = None
) -> Iterator[dict[str, Any]]:
    """Writes an overlay of each file, and yields {"path", "overlay", "class", "probability"}, or {"path", "error"}.

    Args:
      explainer: of the bundle to ask.
      files: images; that of face.jpg goes to face.jpg.explained.png.
      class_name: character that the map is for; None for the likeliest of each image.
      output: folder for the overlays; None for that of each image.

    Raises:
      InputError: no such character, or one for a transformer, or two images whose overlays would have one name, or
        no leave to write beside an image.
    """
    bundle = explainer.bundle
    class_id = _class_id(explainer, class_name)
    targets = [(Path(output) if output else file.parent) / f"{file.name}{EXPLAINED}" for file in files]
    target, times = Counter(targets).most_common(1)[0]
    if times > 1:
        raise InputError(f"{times} images would have their overlays in {target}; allowed: names that differ")
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
    for file, target in zip(files, targets, strict=True):
        try:
            image = read_image(file)
        except InputError as error:
            yield {"path": str(file), "error": str(error)}
            continue
        probabilities, heat = explainer.explain(resize(image, bundle.image_size), class_id)
        named = int(probabilities.argmax()) if class_id is None else class_id
        try:
            with replacing(target) as fresh:
                overlay(image, heat).save(fresh, format="PNG")
        except OSError as error:
            if output or error.errno not in READ_ONLY:
                raise
            raise InputError(f"{target.parent}: {error.strerror}; choose another place with --output=FOLDER") from error
        yield {
            "path": str(file),
            "overlay": str(target),
            "class": bundle.names[named],
            "probability": float(probabilities[named]),
        }


def _class_id(explainer: Explainer, name: str | None) -> int | None:
    if name is None:
        return None
    names = explainer.bundle.names
    if explainer.follows_attention:
        raise InputError(
            f"--class_name={name}: the model is a transformer, whose map of attention is the same for every class; "
            "allowed: no --class_name"
        )
    if name not in names:
        raise InputError(f"unknown character '{name}'; allowed: {', '.join(names[:10])}{' ...' * (len(names) > 10)}")
    return names.index(name)
