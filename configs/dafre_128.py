r"""Table 1 of the DAF:re paper: DAF:re, 50 epochs, batch 64, 128 px.

    python -m animesion_jax.main --config=configs/dafre_128.py:vit_b16,pretrained \
        --config.data_dir=DATA --workdir=runs/dafre_b16

The string after the colon is `MODEL[,pretrained]`, MODEL one of animesion_jax.models.MODELS. `pretrained` starts from
the published weights that the paper started from (the README's table of models names them); a pretrained ResNet is
frozen but for its classifier, a pretrained ViT is trained whole.

Test top-1 / top-5 of the paper, last epoch's weights:

              from scratch    pretrained
    R-18      69.09 / 84.64   26.47 / 45.30
    R-152     64.36 / 81.20   26.49 / 44.88
    B-16      63.30 / 78.58   82.14 / 92.77
    B-32      51.09 / 71.30   75.42 / 89.22
    L-16      59.39 / 77.91   85.95 / 94.23
    L-32      51.81 / 71.81   75.88 / 89.39

ShallowNet has no row here (Table 3: 53.68 / 72.04 at 224 px, batch 1,024, 200 epochs).
"""

import ml_collections

from animesion_jax.models import family
from animesion_jax.pretrained.sources import DEFAULTS
from configs import common

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DROPOUT_RATES = {"shallownet": 0.2, "resnet": 0.0, "vit": 0.1}


def get_config(argument: str = "vit_b16") -> ml_collections.ConfigDict:
    """Returns the config of a row of Table 1; `argument` is `MODEL[,pretrained]`."""
    model, *options = argument.split(",")
    unknown = sorted(set(options) - {"pretrained"})
    if unknown:
        raise ValueError(f"unknown option '{unknown[0]}' in '{argument}'; allowed: MODEL[,pretrained]")
    config = common.get_config()
    config.dataset = "dafre/released"
    config.model = model
    if model == "vit_h14":
        config.image_size = 126  # 128 is no multiple of its patches of 14
    config.dropout_rate = DROPOUT_RATES[family(model)]
    config.resnet.initializer = "xavier"
    if family(model) == "resnet":
        config.mean, config.std = IMAGENET_MEAN, IMAGENET_STD
    if "pretrained" in options:
        if model not in DEFAULTS:
            raise ValueError(f"no published weights of '{model}'; allowed: {', '.join(DEFAULTS)}")
        config.pretrained = DEFAULTS[model]
        config.trainable = "head" if family(model) == "resnet" else "all"
    return config
