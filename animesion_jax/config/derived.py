"""Values derived from others when they are used; they are null in the config."""

import copy
from collections.abc import Callable
from typing import Any

import ml_collections

from animesion_jax.config.build import STAGE_FIELDS, stage

# Peaks (from random weights, from pretrained ones) by optimizer. SGD: 0.1 for a batch of 256 and in proportion to it
# (Goyal et al., 2017, arXiv:1706.02677), a tenth of it for fine-tuning. AdamW: between DeiT's values for 64 and for
# 1,024 images (Touvron et al., 2021, arXiv:2012.12877), for every batch; a tenth of it for fine-tuning.
LEARNING_RATES = {"sgd": (0.1 / 256, 0.01 / 256), "adamw": (5e-4, 5e-5)}
# SGD: Wide ResNets' for small images (arXiv:1605.07146). AdamW: DeiT's.
WEIGHT_DECAYS = {"sgd": 5e-4, "adamw": 0.05}
MAX_WARMUP_EPOCHS = 5.0


def learning_rate(config: ml_collections.ConfigDict, family: Any) -> float:
    """Returns the peak for the optimizer, the batch size and the weights that training starts from."""
    rate = LEARNING_RATES[config.optimizer][bool(config.pretrained)]
    return rate * config.batch_size if config.optimizer == "sgd" else rate


# In this order: the learning rate and the weight decay depend on the optimizer.
DERIVED: dict[str, Callable[[ml_collections.ConfigDict, Any], Any]] = {
    "mean": lambda config, family: tuple(family.mean),
    "std": lambda config, family: tuple(family.std),
    "dropout_rate": lambda config, family: family.dropout_rate,
    "vit.class_token": lambda config, family: config.vit.pool == "token",
    "optimizer": lambda config, family: family.optimizer,
    "learning_rate": learning_rate,
    "weight_decay": lambda config, family: WEIGHT_DECAYS[config.optimizer],
    "warmup_epochs": lambda config, family: min(MAX_WARMUP_EPOCHS, config.epochs / 10),
}


def resolve(config: ml_collections.ConfigDict, family: Any) -> ml_collections.ConfigDict:
    """Returns a copy of a config in which no field is null; its stages are unchanged.

    Args:
      config: as `default_config` makes it.
      family: the `models.Family` of its model.
    """
    resolved = copy.deepcopy(config)
    for name, work_out in DERIVED.items():
        if resolved[name] is None:
            resolved.update_from_flattened_dict({name: work_out(resolved, family)})
    return resolved


def stage_configs(config: ml_collections.ConfigDict, family: Any) -> list[ml_collections.ConfigDict]:
    """Returns a config for every stage that has epochs: no field is null, and its only stage overrides nothing.

    A stage's overrides are applied before values are derived.
    """
    configs = []
    for each in config.stages:
        chosen = copy.deepcopy(config)
        chosen.update_from_flattened_dict({name: each[name] for name in STAGE_FIELDS if each[name] is not None})
        if chosen.epochs:
            chosen.stages = (stage(),)
            configs.append(resolve(chosen, family))
    return configs
