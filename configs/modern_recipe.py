"""`recipe=modern`: what was found to help, of all that has become usual since the DAF:re paper's recipe of 2021.

docs/recipes.md has what was tried and what each gave; all are ordinary fields of a config.
"""

import ml_collections

from animesion_jax.models import family

# The word of a config string that asks for it.
MODERN = "recipe=modern"
# (from random weights, from pretrained ones) by optimizer. SGD: 0.1 for a batch of 256, in proportion to it (Goyal et
# al., 2017, arXiv:1706.02677), a tenth of it for fine-tuning. AdamW: between what DeiT (Touvron et al., 2021,
# arXiv:2012.12877) would have for 64 and has for 1,024 images, for both; a tenth for fine-tuning.
LEARNING_RATES = {"sgd": (0.1 / 256, 0.01 / 256), "adamw": (5e-4, 5e-5)}
# Of kernels. SGD: Wide ResNets' on small images (arXiv:1605.07146); AdamW: DeiT's.
WEIGHT_DECAYS = {"sgd": 5e-4, "adamw": 0.05}
WARMUP_EPOCHS = 5.0
REBALANCE_EPOCHS = 10


def apply_modern(config: ml_collections.ConfigDict) -> None:
    """Sets the fields of the modern recipe, by the model's family, `config.batch_size` and `config.pretrained`.

    Raises:
      ValueError: the config reproduces what the paper's runs did by accident.
    """
    if config.eval_mode_after_epochs:
        raise ValueError(f"'{MODERN}' and 'faithful' exclude each other; allowed: one of them")
    # Transformers want an optimizer that scales every weight's step by itself; convolutions do as well with SGD.
    config.optimizer = "adamw" if family(config.model) == "vit" else "sgd"
    config.learning_rate = LEARNING_RATES[config.optimizer][bool(config.pretrained)]
    if config.optimizer == "sgd":
        config.learning_rate *= config.batch_size
    config.weight_decay = WEIGHT_DECAYS[config.optimizer]
    config.schedule = "cosine"
    config.warmup_epochs = min(WARMUP_EPOCHS, config.epochs / 10)
    # A pretrained ResNet is not frozen: the paper's frozen ones are far behind those from scratch.
    config.trainable = "all"
    # For the long tail: the classifier is trained on with every class of the same weight (Kang et al., 2020,
    # arXiv:1910.09217).
    config.rebalance_epochs = REBALANCE_EPOCHS
    # Both cosines end at 0, so the last weights are the settled ones.
    config.default_weights = "last"
