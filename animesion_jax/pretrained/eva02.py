"""EVA02 in timm's names, and in those of its authors' files at https://github.com/baaivision/EVA (MIT)."""

import re

from animesion_jax.models import FAMILIES
from animesion_jax.pretrained.merge import Arrays, Fate, Weights
from animesion_jax.pretrained.timm import from_timm
from animesion_jax.pretrained.torch_layout import LEAVES

# Only masked pre-training needs these arrays.
MASKED = r"(mask_token|lm_head)(\.weight|\.bias)?"


def translate(weights: Weights, arrays: Arrays) -> None:
    """Adds the arrays of a state dict under our names.

    In a file of masked pre-training the last layer norm, "norm", normalises the tokens. Like timm, start "fc_norm",
    which normalises the patches' mean, from it.
    """
    others = {}
    for key, array in arrays.items():
        module, _, leaf = key.partition(".")
        if masked := re.fullmatch(MASKED, key):
            weights.fates.append(Fate(masked[1], "left out: only masked pre-training needs it", array.size))
        elif module == "norm" and "mask_token" in arrays and (leaf, array.ndim) in LEAVES:
            weights.add(LEAVES[leaf, array.ndim].format("fc_norm"), key, array)
        else:
            others[key] = array
    from_timm(weights, others, FAMILIES["eva02"])
