r"""Table 2 of the DAF:re paper: moeimouto, 200 epochs, batch 64, 128 px.

    animesion --config=moeimouto_128:vit_b16,pretrained --config.data_dir=DATA --workdir=runs/moeimouto_128_vit_b16

The string after the colon is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`.
`animesion_jax.configs.paper_recipe` explains it.

moeimouto has no validation split. These configs hold out an eighth of every class's training images; with `faithful`
they validate on the test split, as the paper did.

Test top-1 / top-5 of the paper, last epoch's weights:

                        from scratch    pretrained
    R-18   resnet18     72.58 / 90.86   61.20 / 83.83
    R-152  resnet152    63.17 / 86.41   63.06 / 85.90
    B-16   vit_b16      67.28 / 82.22   91.57 / 98.06
    B-32   vit_b32      48.76 / 78.19   85.76 / 96.81
    L-16   vit_l16      66.56 / 87.43   92.80 / 98.44
    L-32   vit_l32      49.88 / 78.36   85.22 / 96.94
"""

import ml_collections

from animesion_jax.configs.paper_recipe import get_table_config
from animesion_jax.paper import MOEIMOUTO_128


def get_config(argument: str = "vit_b16") -> ml_collections.ConfigDict:
    """Returns the config of a row of Table 2; `argument` is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`."""
    return get_table_config(MOEIMOUTO_128, argument)
