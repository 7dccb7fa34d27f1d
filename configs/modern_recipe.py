"""`recipe=modern`: newer options that improve on the DAF:re paper's recipe of 2021.

docs/recipes.md lists the options that were tried, with their results. All are ordinary fields of a config:
`--config.stages[1].epochs=0` leaves the second stage out.
"""

import ml_collections

from animesion_jax.config import stage

# The option of a config string that selects the recipe.
MODERN = "recipe=modern"


def apply_modern(config: ml_collections.ConfigDict) -> None:
    """Sets the fields of the modern recipe.

    Raises:
      ValueError: the config reproduces the accidents of the paper's runs.
    """
    if config.eval_mode_after_epochs:
        raise ValueError(f"'{MODERN}' and 'faithful' exclude each other; allowed: one of them")
    # Null values are derived from the model's family, the batch size, the epochs and the weights to start from.
    config.optimizer = config.learning_rate = config.weight_decay = config.warmup_epochs = None
    config.schedule = "cosine"
    # Train a pretrained ResNet whole: the paper's frozen ones are far behind those from scratch.
    config.trainable = "all"
    # Then train the classifier alone, with the same weight for every class. It helps the rare classes of a long tail
    # (Kang et al., 2020, arXiv:1910.09217).
    rebalancing = stage(
        epochs=10,
        trainable="head",
        class_weights="balanced",
        optimizer="sgd",
        learning_rate=0.01,
        schedule="cosine",
        warmup_epochs=0.0,
        weight_decay=0.0,
        label_smoothing=0.0,
        logit_adjustment=0.0,
        mixup=0.0,
        cutmix=0.0,
        ema_decay=0.0,
    )
    config.stages = (stage(), rebalancing)
    # Both cosines end at 0, so the last weights have settled.
    config.default_weights = "last"
