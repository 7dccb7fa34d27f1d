"""The models by name: `MODELS`, `create_model` and `init_variables`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from animesion_jax.errors import InputError
from animesion_jax.models import hybrid, resnet, vit
from animesion_jax.models.resnet import ResNet
from animesion_jax.models.shallownet import ShallowNet
from animesion_jax.models.vit import VisionTransformer

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

MODELS: dict[str, Callable[..., nn.Module]] = {
    "shallownet": ShallowNet,
    **{f"resnet{depth}": partial(ResNet, **size) for depth, size in resnet.SIZES.items()},
    **{
        f"vit_{size}{patch}": partial(VisionTransformer, patch_size=patch, **vit.SIZES[size])
        for size, patch in [
            ("ti", 16), ("s", 16), ("s", 32), ("b", 16), ("b", 32), ("l", 16), ("l", 32), ("h", 14)
        ]
    },
    **{
        name: partial(VisionTransformer, patch_size=1, stem_sizes=hybrid.STEMS[stem], **vit.SIZES[size])
        for name, stem, size in [
            ("r50_vit_b16", "r50_b", "b"), ("r26_vit_b32", "r26", "b"), ("r50_vit_l32", "r50", "l")
        ]
    },
}  # fmt: skip

# Options that only one family has, and what each allows; a config holds them under the family's name.
OPTIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "shallownet": {},
    "resnet": {"initializer": tuple(resnet.INITIALIZERS)},
    "vit": {
        "pool": vit.POOLS,
        "pre_logits": (False, True),
        "gelu": tuple(vit.GELUS),
        "dropout_places": tuple(vit.DROPOUT_PLACES),
    },
}


def family(name: str) -> str:
    """Returns the key of `OPTIONS` for a model's name; InputError for an unknown name."""
    if name not in MODELS:
        raise InputError(f"unknown model '{name}'; allowed: {', '.join(MODELS)}")
    return next(key for key in OPTIONS if key in name)


def create_model(name: str, *, num_classes: int, image_size: int, dtype: str = "float32", **options: Any) -> nn.Module:
    """Returns the linen module of a model; `module.apply(variables, images)` is the evaluation forward.

    Args:
      name: a key of `MODELS`.
      num_classes: number of classes, at least 1.
      image_size: side of the square input in pixels.
      dtype: compute dtype, "float32" or "bfloat16"; parameters are always float32.
      **options: attributes of the module, such as `dropout_rate`, `axis_name` or those of `OPTIONS`.

    Raises:
      InputError: unknown name, dtype or option, or a size that the model cannot take.
    """
    allowed = OPTIONS[family(name)]
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype '{dtype}'; allowed: {', '.join(DTYPES)}")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; a classifier needs at least 1")
    for option, value in options.items():
        if option in allowed and value not in allowed[option]:
            raise InputError(f"{option} of {name} is {value!r}; allowed: {', '.join(map(repr, allowed[option]))}")
    try:
        model = MODELS[name](num_classes=num_classes, dtype=DTYPES[dtype], **options)
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
    """Returns freshly initialised float32 variables {"params", "batch_stats" where the model has them}."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    return jax.jit(lambda key: model.init(key, images))(jax.random.key(seed))


def abstract_variables(model: nn.Module, image_size: int) -> dict[str, Any]:
    """Returns what `init_variables` does as shapes and dtypes, without computing or holding a value."""
    return jax.eval_shape(lambda: init_variables(model, image_size, 0))
