"""Optimizer, learning-rate schedule, freezing and averaging from the config."""

from collections.abc import Callable
from typing import Any

import jax
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


def check_warmup(config: ml_collections.ConfigDict) -> None:
    """Raises InputError unless a cosine has epochs left after its warm-up."""
    if config.schedule == "cosine" and not 0 <= config.warmup_epochs < config.epochs:
        raise InputError(
            f"warmup_epochs {config.warmup_epochs:g} does not fit into epochs {config.epochs}; allowed: 0 up to less "
            f"than {config.epochs}, --config.warmup_epochs=0 for example"
        )


def cosine(config: ml_collections.ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    """Rises linearly from 0 over `config.warmup_epochs`, then falls to 0 along half a cosine."""
    check_warmup(config)
    total_steps = config.epochs * steps_per_epoch
    # Half a step less than all of them would be rounded to all.
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
    """Returns the learning rate as a function of the step (0 is the first update), the re-balancing included."""
    if config.schedule not in SCHEDULES:
        raise InputError(f"unknown schedule '{config.schedule}'; allowed: {', '.join(SCHEDULES)}")
    schedule = SCHEDULES[config.schedule](config, steps_per_epoch)
    if not config.rebalance_epochs:
        return schedule
    second = optax.cosine_decay_schedule(config.rebalance_learning_rate, config.rebalance_epochs * steps_per_epoch)
    return optax.join_schedules([schedule, second], [config.epochs * steps_per_epoch])


def kernels(params: Any) -> Any:
    """Returns a tree of bools: what weight decay is for, which are the kernels of convolutions and dense layers.

    Biases, scales of norms, position embeddings and class tokens are left alone, as in timm and DeiT.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params)


def sgd(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns SGD with momentum: v = momentum * v + g, w = w - learning_rate * v, as in the paper.

    g takes in weight_decay * w where that is set.
    """
    plain = optax.sgd(schedule, momentum=config.momentum)
    if not config.weight_decay:
        return plain
    return optax.chain(optax.add_decayed_weights(config.weight_decay, kernels), plain)


def adamw(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov and Hutter, 2019, arXiv:1711.05101), whose weight decay the learning rate scales."""
    return optax.adamw(schedule, b1=config.momentum, weight_decay=config.weight_decay, mask=kernels)


OPTIMIZERS: dict[str, Callable[[ml_collections.ConfigDict, optax.Schedule], optax.GradientTransformation]] = {
    "sgd": sgd,
    "adamw": adamw,
}


def make_optimizer(config: ml_collections.ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer of a config, with `rebalancing` as its second stage where there is one."""
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"unknown optimizer '{config.optimizer}'; allowed: {', '.join(OPTIMIZERS)}")
    optimizer = OPTIMIZERS[config.optimizer](config, schedule)
    return _with_rebalancing(optimizer, schedule, config.momentum) if config.rebalance_epochs else optimizer


def _with_rebalancing(
    first: optax.GradientTransformation, schedule: optax.Schedule, momentum: float
) -> optax.GradientTransformationExtraArgs:
    """Returns an optimizer that is `first`, and SGD on the classifier alone in updates with a `rebalancing_step`.

    It keeps the state of both, so that a run's checkpoints are all of one shape; neither touches the other's.
    """
    second = optax.trace(momentum)

    def init(params):
        return {"training": first.init(params), "rebalancing": second.init(split_params(params, "head")[0])}

    def update(gradients, state, params=None, *, rebalancing_step=None):
        if rebalancing_step is None:
            deltas, training = first.update(gradients, state["training"], params)
            return deltas, {**state, "training": training}
        velocity, rebalancing = second.update(gradients, state["rebalancing"])
        deltas = jax.tree.map(lambda leaf: -schedule(rebalancing_step) * leaf, velocity)
        return deltas, {**state, "rebalancing": rebalancing}

    return optax.GradientTransformationExtraArgs(init, update)


def update_average(average: Any, values: Any, decay: float, step: jax.Array) -> Any:
    """Returns the running average of a tree, d * average + (1 - d) * values, after `step` updates of it.

    d is `decay`, in the beginning (1 + step) / (10 + step) if that is less, so that the start is soon forgotten, as in
    TensorFlow's ExponentialMovingAverage. Written as a difference, what does not move stays as it is to the last bit.
    """
    rate = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + rate * (new - old), average, values)


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
