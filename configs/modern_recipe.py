"""`recipe=modern`: what has become usual since the DAF:re paper's recipe of 2021, as ordinary fields of a config."""

import ml_collections

from animesion_jax.models import family

# The word of a config string that asks for it.
MODERN = "recipe=modern"
# (from random weights, from pretrained ones) by optimizer, for batches of 64. SGD: 0.1 per 256 (Goyal et al., 2017,
# arXiv:1706.02677), a tenth of it for fine-tuning. AdamW: what DeiT (Touvron et al., 2021, arXiv:2012.12877) has at its
# batch of 1,024 in the order of magnitude, a tenth for fine-tuning.
LEARNING_RATES = {"sgd": (0.025, 0.0025), "adamw": (5e-4, 5e-5)}
# Of kernels. SGD: Wide ResNets' on small images (arXiv:1605.07146); AdamW: DeiT's.
WEIGHT_DECAYS = {"sgd": 5e-4, "adamw": 0.05}
WARMUP_EPOCHS = 5.0


def apply_modern(config: ml_collections.ConfigDict) -> None:
    """Sets the fields of the modern recipe, by the family of `config.model` and by `config.pretrained`.

    Raises:
      ValueError: the config reproduces what the paper's runs did by accident.
    """
    if config.eval_mode_after_epochs:
        raise ValueError(f"'{MODERN}' and 'faithful' exclude each other; allowed: one of them")
    # Transformers want an optimizer that scales every weight's step by itself; convolutions do as well with SGD.
    config.optimizer = "adamw" if family(config.model) == "vit" else "sgd"
    config.learning_rate = LEARNING_RATES[config.optimizer][bool(config.pretrained)]
    config.weight_decay = WEIGHT_DECAYS[config.optimizer]
    config.schedule = "cosine"
    config.warmup_epochs = min(WARMUP_EPOCHS, config.epochs / 10)
    # A pretrained ResNet is not frozen: the paper's frozen ones are far behind those from scratch.
    config.trainable = "all"
    # DeiT's, and timm's ResNets'.
    config.augment.erasing = 0.25
    # Zhang et al. recommend 0.1 to 0.4 for images of many classes, Yun et al. 1.
    config.mixup = 0.2
    config.cutmix = 1.0
    # Szegedy et al.
    config.label_smoothing = 0.1
    # Menon et al.: what makes the mean of the classes' accuracies best.
    config.logit_adjustment = 1.0
    # Less in a short run, see optim.update_average.
    config.ema_decay = 0.999
