r"""The effects of image size and batch size, a study that the DAF:re paper leaves to future work.

    animesion sweep --config=sweep_size:vit_b32,pretrained \
        --config.base.data_dir=DATA --workdir=runs/sweep
    animesion report runs/sweep --output=report_sizes

The string after the colon is that of dafre_128, whose recipe is the base of every run.
`--config.base.FIELD=VALUE` overrides a field of every run, `--config.grid.batch_size="(64,256)"` the values of a field
of the grid. Give each sweep its own workdir.
"""

import ml_collections

from animesion_jax.configs import dafre_128


def get_config(argument: str = "vit_b32") -> ml_collections.ConfigDict:
    """Returns the config of a sweep; `argument` is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`."""
    config = ml_collections.ConfigDict()
    config.base = dafre_128.get_config(argument)
    config.grid = ml_collections.ConfigDict()
    config.grid.image_size = (64, 96, 128, 160, 224)
    config.grid.batch_size = (64, 256, 1024)
    config.grid.seed = (0,)
    config.learning_rate_scaling = "none"  # "linear" or "sqrt" in the batch size relative to base.batch_size
    config.scale_crop_margin = True  # base.crop_margin belongs to base.image_size and grows with the image size
    return config.lock()
