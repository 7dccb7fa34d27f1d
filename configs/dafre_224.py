r"""Table 3 of the DAF:re paper: DAF:re, 200 epochs, batch 1,024, 224 px.

    animesion --config=dafre_224:vit_b32,pretrained \
        --config.data_dir=DATA --config.grad_accumulation=16 --workdir=runs/dafre_224_vit_b32

The string after the colon is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`.
`animesion_jax.configs.paper_recipe` explains it.
If a batch of 1,024 does not fit into memory, `grad_accumulation` cuts each device's share of it into parts.

Test top-1 / top-5 of the paper, last epoch's weights:

                        from scratch    pretrained
    SN     shallownet   53.68 / 72.04
    R-18   resnet18     68.30 / 84.01   24.31 / 39.82
    B-32   vit_b32      38.19 / 59.06   59.92 / 79.20
"""

import ml_collections

from animesion_jax.configs.paper_recipe import get_table_config
from animesion_jax.paper import DAFRE_224


def get_config(argument: str = "vit_b32") -> ml_collections.ConfigDict:
    """Returns the config of a row of Table 3; `argument` is `MODEL[,pretrained[=NAME]][,faithful][,recipe=modern]`."""
    return get_table_config(DAFRE_224, argument)
