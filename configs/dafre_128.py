r"""Table 1 of the DAF:re paper: DAF:re, 50 epochs, batch 64, 128 px.

    python -m animesion_jax.main --config=configs/dafre_128.py:vit_b16 \
        --config.data_dir=DATA --workdir=runs/dafre_b16

The string after the colon is `MODEL[,pretrained]`, MODEL one of animesion_jax.models.MODELS.

Test top-1 / top-5 of the paper, last epoch's weights, from scratch: B-16 63.30/78.58, B-32 51.09/71.30,
L-16 59.39/77.91, L-32 51.81/71.81; pretrained: B-16 82.14/92.77, B-32 75.42/89.22, L-16 85.95/94.23,
L-32 75.88/89.39. ShallowNet has no row here (Table 3: 53.68/72.04 at 224 px, batch 1,024, 200 epochs).
"""

import ml_collections

from configs import common


def get_config(argument: str = "vit_b16") -> ml_collections.ConfigDict:
    """Returns the config of a row of Table 1; `argument` is `MODEL[,pretrained]`."""
    model, *options = argument.split(",")
    unknown = sorted(set(options) - {"pretrained"})
    if unknown:
        raise ValueError(f"unknown option '{unknown[0]}' in '{argument}'; allowed: MODEL[,pretrained]")
    if "pretrained" in options:
        raise ValueError(
            f"'{argument}': loading pretrained weights does not exist yet; train from scratch with '{model}'"
        )
    config = common.get_config()
    config.dataset = "dafre/released"
    config.model = model
    config.dropout_rate = 0.2 if model == "shallownet" else 0.1
    return config
