r"""The demo: ResNet-10 on toyfaces at 64 px, two minutes on two CPU cores.

    animesion --config=demo --config.data_dir=DATA --workdir=runs/demo

The recipe differs from the paper's. Crops keep most of the face, because evaluation sees the whole face. The hue is not
changed, because the colours of eyes and ribbons identify these characters. Brightness, contrast and saturation change
more, because the light varies widely between images. AdamW needs fewer epochs than SGD. Logit
adjustment treats the rare characters like the frequent ones.
"""

import ml_collections

from animesion_jax.configs import common


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of `make demo`."""
    config = common.get_config()
    config.dataset = "toyfaces"
    config.model = "resnet10"
    config.image_size = 64
    config.crop_margin = 10
    config.augment.brightness = 0.4
    config.augment.contrast = 0.3
    config.augment.saturation = 0.3
    config.augment.hue = 0.0
    config.batch_size = 32
    config.epochs = 26
    config.optimizer = "adamw"
    config.learning_rate = 1e-3
    config.weight_decay = 0.05
    config.schedule = "cosine"
    config.warmup_epochs = 2.0
    config.logit_adjustment = 1.0
    config.default_weights = "last"
    return config
