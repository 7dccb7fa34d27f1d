"""Optimizer, learning-rate schedule and freezing from the config."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections
import optax

from animesion_jax.errors import InputError

TRAINABLE = ("all", "head")


def piecewise(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Divides the learning rate by `config.decay_factor` after every `config.decay_epochs` epochs."""
    decay_steps = config.decay_epochs * steps_per_epoch
    if decay_steps < 1:
        raise InputError(f"decay_epochs is {config.decay_epochs}; the piecewise schedule needs at least 1")

    def schedule(step):
        # One power of the quotient, not a running product: float32 keeps the exact value for hundreds of decays.
        return config.learning_rate * jnp.power(1.0 / config.decay_factor, step // decay_steps)

    return schedule


def cosine(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Rises linearly from 0 over `config.warmup_epochs`, then falls to 0 along half a cosine."""
    total_steps = config.epochs * steps_per_epoch
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    if not 0 <= warmup_steps < total_steps:
        raise InputError(
            f"warmup_epochs {config.warmup_epochs} does not fit into epochs {config.epochs}; "
            f"allowed: 0 up to less than {config.epochs}"
        )
    decay = optax.cosine_decay_schedule(config.learning_rate, total_steps - warmup_steps)
    if not warmup_steps:
        return decay
    warmup = optax.linear_schedule(0.0, config.learning_rate, warmup_steps)
    return optax.join_schedules([warmup, decay], [warmup_steps])


SCHEDULES: dict[str, Callable[[ml_collections.ConfigDict, int], optax.Schedule]] = {
    "piecewise": piecewise,
    "cosine": cosine,
}


def make_schedule(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate as a function of the step (0 is the first update)."""
    if config.schedule not in SCHEDULES:
        raise InputError(f"unknown schedule '{config.schedule}'; allowed: {', '.join(SCHEDULES)}")
    return SCHEDULES[config.schedule](config, steps_per_epoch)


def make_optimizer(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns SGD with momentum: v = momentum * v + g, w = w - learning_rate * v, as in the paper."""
    return optax.sgd(schedule, momentum=config.momentum)


def split_params(params: dict[str, Any], trainable: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the parameters that are trained and the frozen ones; a dict of both has them all again.

    Args:
      params: of any model; its classifier is the module "head".
      trainable: a member of `TRAINABLE`.
    """
    if trainable not in TRAINABLE:
        raise InputError(f"unknown trainable '{trainable}'; allowed: {', '.join(TRAINABLE)}")
    if trainable == "all":
        return params, {}
    return {"head": params["head"]}, {name: leaf for name, leaf in params.items() if name != "head"}
