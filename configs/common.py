"""The default config: the recipe of the DAF:re paper's tables at 128 px.

    animesion --config=common --config.FIELD=VALUE --workdir=runs/mine

animesion_jax/config/fields.py lists every field with its default and its meaning. Other files import `get_config` from
here and override fields. A config is locked: setting a misspelt field fails.
"""

import ml_collections

from animesion_jax.config import default_config


def get_config() -> ml_collections.ConfigDict:
    """Returns the default config."""
    return default_config()
