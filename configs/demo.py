r"""The demo: ShallowNet on toyfaces at 48 px, two minutes on two CPU cores.

    animesion --config=demo --config.data_dir=DATA --workdir=runs/demo

The recipe differs from the paper's. Crops keep most of the face, because evaluation sees the whole face. The hue is not
changed, because the colours of eyes and ribbons identify these characters. A cosine with a high peak needs fewer
epochs.
"""

import ml_collections

from animesion_jax.configs import common


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of `make demo`."""
    config = common.get_config()
    config.dataset = "toyfaces"
    config.image_size = 48
    config.crop_margin = 8
    config.augment.hue = 0.0
    config.epochs = 45
    config.learning_rate = 0.04
    config.schedule = "cosine"
    config.warmup_epochs = 2.0
    return config
