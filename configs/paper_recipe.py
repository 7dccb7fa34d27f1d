"""The recipe behind the tables of the DAF:re paper, which the files beside it share."""

import ml_collections

from animesion_jax.configs import common
from animesion_jax.configs.modern_recipe import MODERN, apply_modern
from animesion_jax.models import FAMILIES, Family, family_of
from animesion_jax.paper import DATASETS, FAITHFUL, FAITHFUL_SPLITS, Table
from animesion_jax.pretrained.sources import choose

PRETRAINED = "pretrained"
OPTIONS = (PRETRAINED, "faithful", MODERN)
ARGUMENT = f"MODEL[,pretrained[=NAME]][,faithful][,{MODERN}]"


def get_table_config(table: Table, argument: str) -> ml_collections.ConfigDict:
    """Returns the config of a row of a table.

    Args:
      table: one of animesion_jax.paper.TABLES.
      argument: `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`.

        - MODEL: one of animesion_jax.models.MODELS.
        - pretrained: start from published weights, and set the options that they need. NAME is one of
          `animesion configs --weights`; without it, the paper's weights. A ResNet is frozen except for its classifier;
          a ViT is trained whole.
        - faithful: repeat the accidents of the paper's runs, to reproduce its figures. From the second epoch on, layers
          train in evaluation mode; ShallowNet and the patch embedding of ViTs from scratch have PyTorch's default
          initialisers; ViTs have the exact GELU, and dropout where animesion had it; moeimouto is validated on its test
          split; evaluate and export take the last weights.
        - recipe=modern: optimise as `animesion_jax.configs.modern_recipe` says; excludes faithful.

    Raises:
      ValueError: unknown model or option, options that exclude each other, or no published weights.
    """
    model, *options = argument.split(",")
    starts = [option for option in options if option.partition("=")[0] == PRETRAINED]
    unknown = sorted(set(options) - {*OPTIONS, *starts})
    if unknown:
        raise ValueError(f"unknown option '{unknown[0]}' in '{argument}'; allowed: {ARGUMENT}")
    family = family_of(model)
    config = common.get_config()
    config.dataset = DATASETS[table.dataset]
    if table.dataset == "moeimouto":
        # It has no validation split.
        config.held_out, config.validation_split = 1 / 8, "held_out"
    config.model = model
    # 126 px for vit_h14 instead of 128: a multiple of its patches.
    config.image_size = table.image_size - table.image_size % family.models[model](num_classes=1).image_multiple
    config.resnet.initializer = "xavier"
    config.batch_size = table.batch_size
    config.epochs, config.decay_epochs = table.epochs, table.decay_epochs
    if starts:
        _start_from(starts[-1], config, family)
    if "faithful" in options:
        config.update_from_flattened_dict(FAITHFUL | FAITHFUL_SPLITS.get(table.dataset, {}))
        config.default_weights = "last"
    if MODERN in options:
        apply_modern(config)
    return config


def _start_from(option: str, config: ml_collections.ConfigDict, family: Family) -> None:
    """Sets the weights of `pretrained[=NAME]`, and the options that they need."""
    _, is_named, name = option.partition("=")
    if not is_named and config.model not in family.weights:
        allowed = ", ".join(model for each in FAMILIES.values() for model in each.weights)
        raise ValueError(f"no published weights of '{config.model}'; allowed: {allowed}")
    config.pretrained = name if is_named else family.weights[config.model]
    config.update_from_flattened_dict(choose(config.pretrained, config.model).options)
    config.trainable = family.paper_trainable
