"""The recipe behind the tables of the DAF:re paper, which the four files beside it share."""

import ml_collections

from animesion_jax.models import family
from animesion_jax.paper import DATASETS, DROPOUT_RATES, FAITHFUL, FAITHFUL_SPLITS, IMAGENET_MEAN, IMAGENET_STD, Table
from animesion_jax.pretrained.sources import DEFAULTS
from configs import common
from configs.modern_recipe import MODERN, apply_modern

OPTIONS = ("pretrained", "faithful", MODERN)
ARGUMENT = f"MODEL[,{'][,'.join(OPTIONS)}]"


def get_table_config(table: Table, argument: str) -> ml_collections.ConfigDict:
    """Returns the config of a row of a table.

    Args:
      table: one of animesion_jax.paper.TABLES.
      argument: `MODEL[,pretrained][,faithful][,recipe=modern]`, MODEL one of animesion_jax.models.MODELS. `pretrained`
        starts from the published weights that the paper started from; a pretrained ResNet is frozen but for its
        classifier, a pretrained ViT is trained whole. `faithful` repeats what the paper's runs did by accident, to
        reproduce its figures: from the second epoch on, layers train in evaluation mode; ViTs have the exact GELU and
        dropout where animesion had it; moeimouto is validated on its test split; evaluate and export take the last
        weights.
        `recipe=modern` takes what configs/modern_recipe.py sets instead of the paper's optimisation; not with faithful.

    Raises:
      ValueError: unknown model or option, options that exclude each other, or no published weights.
    """
    model, *options = argument.split(",")
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ValueError(f"unknown option '{unknown[0]}' in '{argument}'; allowed: {ARGUMENT}")
    kind = family(model)
    config = common.get_config()
    config.dataset = DATASETS[table.dataset]
    if table.dataset == "moeimouto":
        # It has no validation split.
        config.held_out, config.validation_split = 1 / 8, "held_out"
    config.model = model
    config.image_size = table.image_size
    if model == "vit_h14":
        config.image_size -= table.image_size % 14  # 126 for 128, which is no multiple of its patches
    config.dropout_rate = DROPOUT_RATES[kind]
    config.resnet.initializer = "xavier"
    if kind == "resnet":
        config.mean, config.std = IMAGENET_MEAN, IMAGENET_STD
    config.batch_size = table.batch_size
    config.epochs, config.decay_epochs = table.epochs, table.decay_epochs
    if "pretrained" in options:
        if model not in DEFAULTS:
            raise ValueError(f"no published weights of '{model}'; allowed: {', '.join(DEFAULTS)}")
        config.pretrained = DEFAULTS[model]
        config.trainable = "head" if kind == "resnet" else "all"
    if "faithful" in options:
        config.update_from_flattened_dict(FAITHFUL | FAITHFUL_SPLITS.get(table.dataset, {}))
        config.default_weights = "last"
    if MODERN in options:
        apply_modern(config)
    return config
