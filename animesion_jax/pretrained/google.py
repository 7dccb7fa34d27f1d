"""Google's ViT and hybrid checkpoints: flat `.npz` archives with names from before Flax linen, or linen's."""

import re
import zipfile
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np

from animesion_jax.errors import InputError, first_line
from animesion_jax.pretrained.merge import Weights

PREFIXES = ("opt/target/", "params/")
# What trainers store beside the parameters.
OPTIMIZER = re.compile(r"(opt|opt_state|optimizer|state|step|epoch)(/|$)")
# Old submodules of an encoder block counted through all classes. linen's names are other ones, so renaming is safe
# for both.
LINEN_NAMES = {
    "LayerNorm_2": "LayerNorm_1",
    "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0",
    "MlpBlock_3": "MlpBlock_0",
}


def read(file: Path) -> Weights:
    """Returns the parameters in an archive; never unpickles.

    Raises:
      InputError: damaged, not an archive of plain arrays, or two of its names mean the same.
    """
    weights = Weights(str(file))
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with archive:
            prefix = next((each for each in PREFIXES if any(key.startswith(each) for key in archive.files)), "")
            for key in archive.files:
                if not (prefix and key.startswith(prefix)) and OPTIMIZER.match(key):
                    weights.ignored[key] = "optimizer state"
                else:
                    name = linen_name(key.removeprefix(prefix))
                    weights.add(f"params/{name}", key, _clean(name, archive[key]))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{file} is damaged or no .npz of plain arrays ({first_line(error)}); download it again"
        ) from error
    return weights


def linen_name(name: str) -> str:
    """Returns a parameter's name in Flax linen's terms; one that already is in them stays as it is."""
    return "/".join(LINEN_NAMES.get(part, part) for part in name.split("/"))


def _clean(name: str, array: np.ndarray) -> np.ndarray:
    if getattr(array, "dtype", None) == np.dtype("V2"):  # numpy does not know bfloat16 and returns raw bytes
        array = array.view(ml_dtypes.bfloat16)
    if re.search(r"(^|/)gn\w+/(scale|bias)$", name) and array.ndim == 4 and array.shape[:3] == (1, 1, 1):
        array = array.reshape(-1)
    return array
