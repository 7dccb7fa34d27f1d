"""Logits of every family with weights from a formula, and the stored ones that benchmarks/gpu_check.py compares.

JAX_PLATFORMS=cpu python benchmarks/logits.py         # writes benchmarks/logits.json again, after a change of `CASES`

Each weight and pixel is an integer hash of its position, so that it depends on no release's random numbers. The stored
logits are float64, except for the softmax and the classifier, which the models compute in float32. "rounding" is
the error of float32 logits whose weights and images were rounded to TF32.
"""

import json
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the package may not be installed

from animesion_jax.models import abstract_variables, create_model  # noqa: E402

STORED = Path(__file__).with_suffix(".json")
# Image sizes in pixels, by model: every family, and both units of ResNets. Every ViT's number of tokens is odd.
CASES = {"shallownet": 128, "resnet18": 128, "vit_ti16": 128, "r26_vit_b32": 128, "resnet50": 128, "vit_b16": 224}
BATCH, CLASSES = 4, 16
# Allowed errors, as multiples of "rounding". On CPUs, those of float32 are 1/2100 to 1/670. Its limit is far above, and
# far below the 1 of TF32, which must not pass. Those of bfloat16 are 5 to 16; TF32, with 3 bits more, has an eighth.
ALLOWED = {"float32": 1 / 32, "tf32": 4, "bfloat16": 32}
# Centre and half width of the range of all leaves but kernels.
RANGES = {
    "bias": (0, 0.1),
    "scale": (1, 0.5),
    "mean": (0, 0.1),
    "var": (1, 0.5),
    "cls": (0, 1),
    "pos_embedding": (0, 1),
}


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns float32 numbers in [-1, 1) that depend on the name and their places alone."""
    # MurmurHash3's finaliser mixes the bits.
    bits = np.arange(math.prod(shape), dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return ((bits >> np.uint32(8)).astype(np.float32) / 2**23 - 1).reshape(shape)


def _leaf(path: tuple[jax.tree_util.DictKey, ...], like: jax.ShapeDtypeStruct) -> np.ndarray:
    """Returns a weight; kernels keep the variance of their inputs."""
    names = [key.key for key in path]
    if names[-1] == "kernel":
        fan_in = math.prod(like.shape[: 1 if names[-2] in ("query", "key", "value") else -1])
        centre, half = 0, np.float32(math.sqrt(3 / fan_in))
    else:
        centre, half = RANGES[names[-1]]
    return np.float32(centre) + np.float32(half) * uniform("/".join(names), like.shape)


def make_case(name: str) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the float32 variables of a case and its (batch, S, S, 3) images."""
    model = create_model(name, num_classes=CLASSES, image_size=CASES[name])
    variables = jax.tree_util.tree_map_with_path(_leaf, abstract_variables(model, CASES[name]))
    blocks = uniform("blocks", (BATCH, 8, 8, 3)).repeat(CASES[name] // 8, 1).repeat(CASES[name] // 8, 2)
    return variables, (blocks + uniform("noise", blocks.shape)) / 2


def compute_logits(name: str, dtype: Any, variables: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Returns the (batch, classes) logits on the default device; `dtype` is that of the computation."""
    model = create_model(name, num_classes=CLASSES, image_size=CASES[name]).clone(dtype=dtype)
    return np.asarray(jax.jit(model.apply)(variables, images), np.float64)


def relative_error(logits: np.ndarray, stored: np.ndarray) -> float:
    """Returns the root mean square difference, relative to the standard deviation between images."""
    return float(np.sqrt(np.mean((logits - stored) ** 2) / np.mean(stored.var(0))))


def read_stored() -> dict[str, dict[str, Any]]:
    """Returns {"logits": (batch, classes) float64, "rounding"} by model."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    return {name: each | {"logits": np.array(each["logits"])} for name, each in stored.items()}


def round_to_tf32(array: np.ndarray) -> np.ndarray:
    """Returns float32 numbers rounded to TF32's 11 significant bits."""
    return ((array.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def main() -> None:
    """Writes the stored logits."""
    stored = {}
    for name in CASES:
        case = make_case(name)
        with jax.enable_x64(True):
            logits = compute_logits(name, jnp.float64, *jax.tree.map(np.float64, case))
        rounded = compute_logits(name, jnp.float32, *jax.tree.map(round_to_tf32, case))
        stored[name] = {"rounding": relative_error(rounded, logits), "logits": logits.tolist()}
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
