"""The models by name: `FAMILIES`, `MODELS`, `create_model` and `init_variables`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.errors import InputError
from animesion_jax.models import beit, eva02, resnet, shallownet, vit_family
from animesion_jax.models.family import HEAD, Family, GradCam, Positions, RelativePositions, Rollout, Timm

__all__ = [
    "DTYPES", "FAMILIES", "HEAD", "MODELS", "Family", "GradCam", "Positions", "RelativePositions", "Rollout", "Timm",
    "abstract_variables", "create_model", "family_of", "init_variables",
]  # fmt: skip

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# To add a family, write its record beside its module and enter it here.
FAMILIES: dict[str, Family] = {
    family.name: family for family in (shallownet.FAMILY, resnet.FAMILY, vit_family.FAMILY, beit.FAMILY, eva02.FAMILY)
}
MODELS: tuple[str, ...] = tuple(model for family in FAMILIES.values() for model in family.models)


def family_of(model_name: str) -> Family:
    """Returns the record of a model's family; InputError for an unknown name."""
    for family in FAMILIES.values():
        if model_name in family.models:
            return family
    allowed = ", ".join(model for family in FAMILIES.values() for model in family.models)
    raise InputError(f"unknown model '{model_name}'; allowed: {allowed}")


def create_model(name: str, *, num_classes: int, image_size: int, dtype: str = "float32", **options: Any) -> nn.Module:
    """Returns the linen module of a model; `module.apply(variables, images)` returns the logits of evaluation.

    Args:
      name: a member of `MODELS`.
      num_classes: number of classes, at least 1.
      image_size: side of the square input in pixels.
      dtype: compute dtype, "float32" or "bfloat16"; parameters are always float32.
      **options: attributes of the module, such as `dropout_rate`, `axis_name` or those of `Family.options`.

    Raises:
      InputError: an unknown name, dtype or option, or an image size that does not fit the model.
    """
    family = family_of(name)
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype '{dtype}'; allowed: {', '.join(DTYPES)}")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; a classifier needs at least 1")
    for option, value in options.items():
        allowed = family.options.get(option, (value,))
        if value not in allowed:
            raise InputError(f"{option} of {name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")
    try:
        model = family.models[name](num_classes=num_classes, dtype=DTYPES[dtype], **options)
    except TypeError as error:
        raise InputError(f"options {options} do not fit model '{name}': {error}") from error
    multiple = model.image_multiple
    if image_size < multiple or image_size % multiple:
        below = max(image_size // multiple, 1) * multiple
        raise InputError(
            f"image_size {image_size} is not a multiple of {multiple}, the pixels along a side of {name}'s tokens; "
            f"the nearest that are: {below} and {below + multiple}"
        )
    if image_size < model.min_image_size:
        raise InputError(f"image_size {image_size} is too small for {name}; at least {model.min_image_size}")
    return model


def init_variables(model: nn.Module, image_size: int, seed: int) -> dict[str, Any]:
    """Returns newly initialised float32 variables, {"params", "batch_stats" if the model has them}."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    return jax.jit(lambda key: model.init(key, images))(jax.random.key(seed))


def abstract_variables(model: nn.Module, image_size: int) -> dict[str, Any]:
    """Returns the shapes and dtypes of `init_variables`, without computing a value."""
    return jax.eval_shape(lambda: init_variables(model, image_size, 0))
