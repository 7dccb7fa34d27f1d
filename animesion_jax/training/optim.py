"""Optimizer, learning-rate schedule, freezing and averaging of a stage.

Every config here is that of a stage: no field is null (`config.stage_configs`).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from animesion_jax.models import HEAD


def piecewise(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Returns a schedule divided by `config.decay_factor` after every `config.decay_epochs` epochs."""
    decay_steps = config.decay_epochs * steps_per_epoch

    def schedule(step):
        # One power of the quotient instead of a running product: float32 keeps the exact value for hundreds of decays.
        return config.learning_rate * jnp.power(1.0 / config.decay_factor, step // decay_steps)

    return schedule


def cosine(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Returns a schedule: up linearly from 0 over `config.warmup_epochs`, then down to 0 along half a cosine."""
    total_steps = config.epochs * steps_per_epoch
    # Keep a step after the warm-up: rounding may bring the warm-up to all steps.
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), total_steps - 1)
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
    """Returns the learning rate as a function of the stage's step; 0 is its first update."""
    return SCHEDULES[config.schedule](config, steps_per_epoch)


def kernels(params: Any) -> Any:
    """Returns a tree of bools: True for the kernels of convolutions and dense layers, which weight decay applies to.

    Biases, scales of norms, position embeddings and class tokens do not decay, as in timm and DeiT.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params)


def sgd(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns SGD with momentum: v = momentum * v + g, w = w - learning_rate * v, as in the paper.

    g includes weight_decay * w.
    """
    plain = optax.sgd(schedule, momentum=config.momentum)
    if not config.weight_decay:
        return plain
    return optax.chain(optax.add_decayed_weights(config.weight_decay, kernels), plain)


def adamw(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101); the learning rate scales its weight decay."""
    return optax.adamw(schedule, b1=config.momentum, weight_decay=config.weight_decay, mask=kernels)


OPTIMIZERS: dict[str, Callable[[ml_collections.ConfigDict, optax.Schedule], optax.GradientTransformation]] = {
    "sgd": sgd,
    "adamw": adamw,
}


def make_optimizer(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer of a stage."""
    return OPTIMIZERS[config.optimizer](config, schedule)


def update_average(average: Any, values: Any, decay: float, step: jax.Array) -> Any:
    """Returns the moving average d * average + (1 - d) * values of a tree after `step` updates of it.

    d is `decay`, or (1 + step) / (10 + step) while that is less: early averages soon forget the start, as in
    TensorFlow's ExponentialMovingAverage. Written as a difference, so that a constant stays the same to the last bit.
    """
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + rate * (new - old), average, values)


def split_params(params: dict[str, Any], trainable: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the trained and the frozen parameters; the union of the two dicts is `params`.

    Args:
      params: of any model.
      trainable: "all", or "head" for the classifier alone.
    """
    if trainable == "all":
        return params, {}
    return {HEAD: params[HEAD]}, {name: leaf for name, leaf in params.items() if name != HEAD}
