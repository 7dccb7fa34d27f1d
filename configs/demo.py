r"""The demo: ShallowNet on toyfaces at 64 px, minutes on two CPU cores.

python -m animesion_jax.main --config=configs/demo.py --config.data_dir=DATA --workdir=runs/demo
"""

import ml_collections

from configs import common


def get_config() -> ml_collections.ConfigDict:
    """Returns the config of `make demo`."""
    config = common.get_config()
    config.dataset = "toyfaces"
    config.image_size = 64
    config.epochs = 20
    config.learning_rate = 0.02
    config.schedule = "cosine"
    config.warmup_epochs = 1.0
    return config
