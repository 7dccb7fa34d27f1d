r"""Your own images: a folder per character, or train/, validation/ and test/ with such folders.

    animesion --config=folder:vit_s16,pretrained --config.folder=PATH --workdir=runs/mine

With `--config.detector=FILE_OR_ADDRESS`, the images are whole pictures: each one with exactly one head is cropped to
it, by `config.box_scale` and `config.box_shift`.

The string after the colon is `MODEL[,pretrained[=NAME]][,recipe=modern]`. The first start builds a data set of the
images below `config.data_dir` (see tfds_builders/folder/README.md); later starts use it again.

The recipe is the paper's at 128 px with three changes for a small data set: smaller batches give more updates, the
learning rate follows a cosine with a warm-up, and a pretrained ResNet is trained whole.
"""

import dataclasses

import ml_collections

from animesion_jax.configs.modern_recipe import MODERN
from animesion_jax.configs.paper_recipe import get_table_config
from animesion_jax.paper import DAFRE_128


def get_config(argument: str = "vit_s16,pretrained") -> ml_collections.ConfigDict:
    """Returns the config for a folder; `argument` is `MODEL[,pretrained[=NAME]][,recipe=modern]`."""
    config = get_table_config(dataclasses.replace(DAFRE_128, batch_size=32), argument)
    config.dataset = "folder"
    if MODERN not in argument.split(","):
        config.learning_rate = 0.01
        config.schedule = "cosine"
        config.warmup_epochs = 2.0
        config.trainable = "all"
    return config
