"""The training step that the benchmarks time, lower and compile."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from animesion_jax.distributed import AXIS
from animesion_jax.models import abstract_variables
from animesion_jax.training import optim
from animesion_jax.training.state import create_state
from animesion_jax.training.steps import make_train_step
from animesion_jax.workdir import run

TOTAL_STEPS = 1000


def build_step(
    config: ml_collections.ConfigDict, num_classes: int, devices: Sequence[jax.Device]
) -> tuple[nn.Module, optax.GradientTransformation, Callable]:
    """Returns (model, optimizer, pmapped training step) of a config on some devices."""
    model = run.build_model(config, num_classes, AXIS)
    optimizer = optim.make_optimizer(config, optim.make_schedule(config, TOTAL_STEPS))
    return model, optimizer, make_train_step(model, optimizer, config, devices)


def lower_step(
    config: ml_collections.ConfigDict, num_classes: int, devices: Sequence[jax.Device]
) -> jax.stages.Lowered:
    """Returns the training step of a config, lowered from shapes alone for some devices."""
    model, optimizer, train_step = build_step(config, num_classes, devices)
    variables = abstract_variables(model, config.image_size)
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), variables)
    side, local = config.image_size + config.crop_margin, config.batch_size // len(devices)
    batch = {
        "image": jax.ShapeDtypeStruct((len(devices), local, side, side, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((len(devices), local), jnp.int32),
        "mask": jax.ShapeDtypeStruct((len(devices), local), jnp.float32),
    }
    return train_step.lower(state, batch)
