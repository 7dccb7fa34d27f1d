r"""Table 4 of the DAF:re paper: moeimouto, 200 epochs, batch 1,024, 224 px.

    animesion --config=moeimouto_224:vit_b32,pretrained \
        --config.data_dir=DATA --config.grad_accumulation=16 --workdir=runs/moeimouto_224_vit_b32

The string after the colon is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`.
`animesion_jax.configs.paper_recipe` explains it.
If a batch of 1,024 does not fit into memory, `grad_accumulation` cuts each device's share of it into parts.

moeimouto has no validation split. These configs hold out an eighth of every class's training images; with `faithful`
they validate on the test split, as the paper did.

Test top-1 / top-5 of the paper, last epoch's weights:

                        from scratch    pretrained
    SN     shallownet   57.49 / 80.43
    R-18   resnet18     60.41 / 84.20   34.08 / 58.95
    B-32   vit_b32       9.17 / 20.12   24.69 / 54.03
"""

import ml_collections

from animesion_jax.configs.paper_recipe import get_table_config
from animesion_jax.paper import MOEIMOUTO_224


def get_config(argument: str = "vit_b32") -> ml_collections.ConfigDict:
    """Returns the config of a row of Table 4; `argument` is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`."""
    return get_table_config(MOEIMOUTO_224, argument)
