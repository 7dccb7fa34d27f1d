"""Checks."""

import math

import ml_collections

from animesion_jax.errors import InputError
from animesion_jax.training import optim
from animesion_jax.workdir.checkpoints import WEIGHTS

# Fields of a config by the numbers they allow.
POSITIVE = (
    "image_size", "batch_size", "eval_batch_size", "grad_accumulation", "epochs", "learning_rate", "decay_factor",
    "log_every_steps", "keep_last_checkpoints", "rebalance_learning_rate",
)  # fmt: skip


NOT_NEGATIVE = (
    "crop_margin", "eval_mode_after_epochs", "checkpoint_every_steps", "seed", "mixup", "cutmix", "weight_decay",
    "logit_adjustment", "rebalance_epochs", "min_images",
)  # fmt: skip


LESS_THAN_ONE = ("dropout_rate", "momentum", "label_smoothing", "ema_decay")


FINITE = ("learning_rate", "rebalance_learning_rate", "mixup", "cutmix", "weight_decay", "logit_adjustment")


PROBABILITIES = ("flip", "erasing")


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises InputError naming the first field whose value cannot be trained with."""
    for name in POSITIVE:
        if not config[name] > 0:
            raise InputError(f"config.{name} is {config[name]}; allowed: more than 0")
    for name in LESS_THAN_ONE:
        if not 0 <= config[name] < 1:
            raise InputError(f"config.{name} is {config[name]}; allowed: 0 up to less than 1")
    for name in NOT_NEGATIVE:
        if not config[name] >= 0:
            raise InputError(f"config.{name} is {config[name]}; allowed: 0 or more")
    augment = {f"augment.{name}": value for name, value in config.augment.items()}
    for name, value in {**{name: config[name] for name in FINITE}, **augment}.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"config.{name} is {value}; allowed: a finite number, 0 or more")
    for name in PROBABILITIES:
        if config.augment[name] > 1:
            raise InputError(f"config.augment.{name} is {config.augment[name]}; allowed: a probability, 0 to 1")
    if config.optimizer not in optim.OPTIMIZERS:
        raise InputError(f"config.optimizer is '{config.optimizer}'; allowed: {', '.join(optim.OPTIMIZERS)}")
    optim.check_warmup(config)
    for name in ("read_groups", "shuffle_buffer"):
        if config.data[name] < 1:
            raise InputError(f"config.data.{name} is {config.data[name]}; allowed: 1 or more")
    if config.default_weights not in WEIGHTS:
        raise InputError(f"config.default_weights is '{config.default_weights}'; allowed: {', '.join(WEIGHTS)}")
    if config.dataset == "folder" and not config.folder:
        raise InputError("config.folder is ''; needed: the folder of your pictures, such as --config.folder=PATH")
    for name in ("mean", "std"):
        numbers = [value for value in config[name] if isinstance(value, int | float) and math.isfinite(value)]
        if len(config[name]) != 3 or len(numbers) != 3 or (name == "std" and not min(numbers) > 0):
            raise InputError(f"config.{name} is {config[name]}; allowed: three numbers, those of std above 0")
