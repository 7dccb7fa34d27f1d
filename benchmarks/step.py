"""The training step that the benchmarks time, lower and compile."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import ml_collections

from animesion_jax.config import stage_configs
from animesion_jax.distributed import AXIS
from animesion_jax.models import abstract_variables, family_of
from animesion_jax.training.losses import make_loss
from animesion_jax.training.stages import Stage
from animesion_jax.training.steps import make_train_step
from animesion_jax.workdir.run import build_model

# Any number works: it only shapes the learning rate's schedule.
STEPS_PER_EPOCH = 20


def build_step(
    config: ml_collections.ConfigDict, num_classes: int, devices: Sequence[jax.Device]
) -> tuple[Stage, Callable]:
    """Returns the first stage of a config, and its pmapped training step, which can be lowered."""
    model = build_model(config, num_classes, AXIS)
    first = stage_configs(config, family_of(config.model))[0]
    stage = Stage(first, model, devices, make_loss(first), STEPS_PER_EPOCH, 0, first.epochs * STEPS_PER_EPOCH)
    return stage, make_train_step(model, stage.optimizer, first, stage.loss, devices)


def lower_step(
    config: ml_collections.ConfigDict, num_classes: int, devices: Sequence[jax.Device]
) -> jax.stages.Lowered:
    """Returns the training step of a config, lowered from shapes alone for some devices."""
    stage, train_step = build_step(config, num_classes, devices)
    state = jax.eval_shape(stage.create_state, abstract_variables(stage.model, config.image_size))
    side, local = config.image_size + config.crop_margin, config.batch_size // len(devices)
    batch = {
        "image": jax.ShapeDtypeStruct((len(devices), local, side, side, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((len(devices), local), jnp.int32),
        "mask": jax.ShapeDtypeStruct((len(devices), local), jnp.float32),
    }
    return train_step.lower(state, batch)
