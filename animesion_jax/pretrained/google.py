"""Google's ViT and hybrid checkpoints: flat `.npz` archives with names from before Flax linen, or linen's."""

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from animesion_jax.pretrained.merge import LeftOut, Weights, damaged

# Where trainers put the parameters of their state.
PREFIX = re.compile(r"(opt/target/)?(params/)?")
# What trainers store beside the parameters.
OPTIMIZER = re.compile(r"(opt|opt_state|optimizer|state|step|epoch)(/|$)")
# Old submodules of an encoder block counted through all classes. linen's names are other ones, so renaming is safe
# for both.
LINEN_NAMES = {
    "LayerNorm_2": "LayerNorm_1",
    "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0",
    "MlpBlock_3": "MlpBlock_0",
}
GROUP_NORM = re.compile(r"(^|/)gn\w+/(scale|bias)$")


def read(file: Path) -> Weights:
    """Returns the parameters in an archive; never unpickles. InputError if it is damaged or no archive of arrays."""
    weights = Weights(str(file))
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            for key in archive.files:
                prefix = PREFIX.match(key).group()
                if not prefix and (other := OPTIMIZER.match(key)):
                    weights.left_out[key] = LeftOut(other.group(1), "optimizer state")
                else:
                    name = linen_name(key.removeprefix(prefix))
                    weights.add(f"params/{name}", key, _clean(name, archive[key]))
    except Exception as error:  # zipfile and numpy raise a dozen types on damaged bytes, all of which mean the same
        raise damaged(file, ".npz of plain arrays", error) from error
    return weights


def linen_name(name: str) -> str:
    """Returns a parameter's name in Flax linen's terms; one that already is in them stays as it is."""
    return "/".join(LINEN_NAMES.get(part, part) for part in name.split("/"))


def _clean(name: str, array: Any) -> Any:
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype == np.dtype("V2"):  # numpy does not know bfloat16 and returns raw bytes
        array = array.view(ml_dtypes.bfloat16)
    if GROUP_NORM.search(name) and array.ndim == 4 and array.shape[:3] == (1, 1, 1):
        array = array.reshape(-1)
    return array
