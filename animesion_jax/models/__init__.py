"""The models by name: `MODELS`, `create_model` and `init_variables`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.errors import InputError
from animesion_jax.models.shallownet import MIN_IMAGE_SIZE, ShallowNet
from animesion_jax.models.vit import SIZES, VisionTransformer

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

MODELS: dict[str, Callable[..., nn.Module]] = {
    "shallownet": ShallowNet,
    **{
        f"vit_{size}{patch}": partial(VisionTransformer, patch_size=patch, **SIZES[size])
        for size, patch in [
            ("ti", 16), ("s", 16), ("s", 32), ("b", 16), ("b", 32), ("l", 16), ("l", 32), ("h", 14)
        ]
    },
}  # fmt: skip


def create_model(name: str, *, num_classes: int, image_size: int, dtype: str = "float32", **options: Any) -> nn.Module:
    """Returns the linen module of a model; `module.apply(variables, images)` is the evaluation forward.

    Args:
      name: a key of `MODELS`.
      num_classes: number of classes, at least 1.
      image_size: side of the square input in pixels.
      dtype: compute dtype, "float32" or "bfloat16"; parameters are always float32.
      **options: attributes of the module, such as `dropout_rate` or `axis_name`.

    Raises:
      InputError: unknown name or dtype, or a size that the model cannot take.
    """
    if name not in MODELS:
        raise InputError(f"unknown model '{name}'; allowed: {', '.join(MODELS)}")
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype '{dtype}'; allowed: {', '.join(DTYPES)}")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; a classifier needs at least 1")
    try:
        model = MODELS[name](num_classes=num_classes, dtype=DTYPES[dtype], **options)
    except TypeError as error:
        raise InputError(f"options {options} do not fit model '{name}': {error}") from error
    patch_size = getattr(model, "patch_size", None)
    if patch_size and (image_size < patch_size or image_size % patch_size):
        below = max(image_size // patch_size, 1) * patch_size
        raise InputError(
            f"image_size {image_size} is not a multiple of {name}'s patch size {patch_size}; "
            f"the nearest that are: {below} and {below + patch_size}"
        )
    if image_size < MIN_IMAGE_SIZE:
        raise InputError(f"image_size {image_size} is too small for {name}; at least {MIN_IMAGE_SIZE}")
    return model


def init_variables(model: nn.Module, image_size: int, seed: int) -> dict[str, Any]:
    """Returns freshly initialised float32 variables {"params", "batch_stats" where the model has them}."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    return jax.jit(lambda key: model.init(key, images))(jax.random.key(seed))
