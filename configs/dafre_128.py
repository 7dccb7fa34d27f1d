r"""Table 1 of the DAF:re paper: DAF:re, 50 epochs, batch 64, 128 px.

    animesion --config=dafre_128:vit_b16,pretrained --config.data_dir=DATA --workdir=runs/dafre_128_vit_b16

The string after the colon is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`.
`animesion_jax.configs.paper_recipe` explains it.

Test top-1 / top-5 of the paper, last epoch's weights:

                        from scratch    pretrained
    R-18   resnet18     69.09 / 84.64   26.47 / 45.30
    R-152  resnet152    64.36 / 81.20   26.49 / 44.88
    B-16   vit_b16      63.30 / 78.58   82.14 / 92.77
    B-32   vit_b32      51.09 / 71.30   75.42 / 89.22
    L-16   vit_l16      59.39 / 77.91   85.95 / 94.23
    L-32   vit_l32      51.81 / 71.81   75.88 / 89.39
"""

import ml_collections

from animesion_jax.configs.paper_recipe import get_table_config
from animesion_jax.paper import DAFRE_128


def get_config(argument: str = "vit_b16") -> ml_collections.ConfigDict:
    """Returns the config of a row of Table 1; `argument` is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`."""
    return get_table_config(DAFRE_128, argument)
