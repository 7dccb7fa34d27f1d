"""Random weights by name and shape, for the state dicts of timm's and transformers' models.

The values keep activations near 1, and every part of a model shows in the logits, the epsilons included.
"""

import math
import re
from collections.abc import Mapping

import numpy as np

from tests.published import STREAM

# Class token, registers and position embeddings start the residual stream; the other layers add to it.
TOKENS = re.compile(r"(^|\.)(cls_token|reg_token|mask_token|pos_embed|position_embeddings)$")
ADDS_TO_STREAM = re.compile(r"(^|\.)(proj|projection|fc2|o_proj|output\.dense)\.(weight|bias)$")
LAYER_SCALES = re.compile(r"(^|\.)(gamma|gamma_1|gamma_2|lambda1)$")
BIAS_TABLES = re.compile(r"(^|\.)relative_position_bias_table$")
# Inputs of a GELU or SiLU: at 1.5 the exact GELU and its tanh approximation differ enough.
HIDDEN = re.compile(r"(^|\.)(fc1|fc1_g|intermediate\.dense)\.weight$")
# Layers whose outputs a norm inside the layer takes, and that norm: at a gain of 1 its epsilon would not show.
INNER_NORMS = {"attn.v_proj": "attn.norm", "mlp.fc1_x": "mlp.norm"}


def draw_arrays(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Returns float32 arrays in PyTorch's layout; a name, a shape and the seed decide the values of an array."""
    return {name: _draw(name, tuple(shape), shapes, seed) for name, shape in shapes.items()}


def _draw(name: str, shape: tuple[int, ...], names: Mapping[str, tuple[int, ...]], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, *name.encode()])
    if LAYER_SCALES.search(name):
        # In float64, because the last bit of NumPy's float32 power depends on the processor.
        return (10 ** rng.uniform(-1, 0, shape)).astype(np.float32)
    gain = STREAM if TOKENS.search(name) or ADDS_TO_STREAM.search(name) or _feeds_norm(name, names) else 1.0
    values = rng.standard_normal(shape, np.float32)
    if len(shape) == 1:
        is_scale = name.endswith(".weight")
        return np.float32(is_scale) + values * np.float32(0.1 * gain)
    if TOKENS.search(name) or BIAS_TABLES.search(name):
        return values * np.float32(gain)
    gain *= 1.5 if HIDDEN.search(name) else 1.0
    return values * np.float32(gain / math.sqrt(math.prod(shape[1:])))


def _feeds_norm(name: str, names: Mapping[str, tuple[int, ...]]) -> bool:
    return any(
        f".{layer}." in name and f"{name.partition(f'.{layer}.')[0]}.{norm}.weight" in names
        for layer, norm in INNER_NORMS.items()
    )
