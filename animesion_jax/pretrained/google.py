"""Google's ViT and hybrid checkpoints: flat `.npz` archives with the names of Flax linen or of its predecessor.

big_vision's archives, which big_vision.py translates, are read here too.
"""

import math
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from animesion_jax.pretrained import big_vision, layouts
from animesion_jax.pretrained.layouts import READ_PREFIX
from animesion_jax.pretrained.merge import Fate, Weights, damaged

# Trainers store these beside the parameters.
OPTIMIZER = re.compile(r"(opt|opt_state|optimizer|state|step|epoch)(/|$)")
# Before linen, the submodules of an encoder block were counted across classes. Linen has none of these names, so
# renaming is safe for both.
LINEN_NAMES = {
    "LayerNorm_2": "LayerNorm_1",
    "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0",
    "MlpBlock_3": "MlpBlock_0",
}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Weights hardly compress: refuse an archive that unpacks to more than FREE_BYTES + MAX_EXPANSION times its size.
FREE_BYTES = 2**24
MAX_EXPANSION = 16
# Version 3 only adds names of fields, which weights do not have.
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
GROUP_NORM = re.compile(r"(^|/)gn\w+/(scale|bias)$")


def read(file: Path) -> Weights:
    """Returns the parameters in an archive. Never unpickles; memory is limited to a few times the file's size.

    Raises:
      InputError: the file is damaged or not an archive of arrays.
    """
    weights, arrays = Weights(str(file)), {}
    try:
        with file.open("rb") as stream:
            if stream.read(2) != b"PK":  # numpy would read any other file as a single array of any size
                raise ValueError("not an archive; perhaps a single array or a pickle")
            stream.seek(0)
            archive = np.load(stream, allow_pickle=False)
            _check_members(archive.zip, file.stat().st_size)
            for key in archive.files:
                if not READ_PREFIX.match(key).group() and (other := OPTIMIZER.match(key)):
                    weights.fates.append(Fate(other.group(1), "left out: optimizer state"))
                else:
                    arrays[key] = _clean(key, archive[key])
    except Exception as error:  # zipfile and numpy raise a dozen types on damaged bytes
        raise damaged(file, ".npz of plain arrays", error) from error
    layout = layouts.check(weights.source, arrays, (*layouts.NPZ, layouts.SINE_COSINE))
    if layout.name in (layouts.BIG_VISION, layouts.SINE_COSINE):
        big_vision.translate(weights, arrays, layout.prefix)
    else:
        for key, array in arrays.items():
            parts = key.removeprefix(READ_PREFIX.match(key).group()).split("/")
            weights.add(f"params/{'/'.join(LINEN_NAMES.get(part, part) for part in parts)}", key, array)
    return weights


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Raises ValueError for members that unpack to too much, or declare more than they hold."""
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > FREE_BYTES + MAX_EXPANSION * size:
        allowed = f"{FREE_BYTES} + {MAX_EXPANSION} times the size"
        raise ValueError(f"{size} bytes that unpack to {unpacked}; allowed: {allowed}")
    for info in archive.infolist():
        if info.compress_type not in METHODS:
            raise ValueError(f"'{info.filename}' is compressed by method {info.compress_type}; allowed: {METHODS}")
        with archive.open(info) as member:
            _check_header(info, member)


def _check_header(info: zipfile.ZipInfo, member: BinaryIO) -> None:
    """Raises ValueError unless an array's header fits the bytes that follow; numpy allocates by the header."""
    prefix = np.lib.format.MAGIC_PREFIX
    if member.read(len(prefix)) != prefix:
        return
    member.seek(0)
    version = np.lib.format.read_magic(member)
    if version not in HEADERS:
        raise ValueError(f"'{info.filename}' has version {version}; allowed: {', '.join(map(str, HEADERS))}")
    shape, _, dtype = HEADERS[version](member)
    if dtype.hasobject:
        raise ValueError(f"'{info.filename}' is pickled, which could run code; it is not read")
    if math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
        raise ValueError(f"'{info.filename}' declares {shape} {dtype} in {info.file_size} bytes")


def _clean(key: str, array: Any) -> Any:
    """Returns an array with bfloat16 decoded, and GroupNorm's scale and bias as vectors."""
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype == np.dtype("V2"):  # numpy does not know bfloat16 and returns raw bytes
        array = array.view(ml_dtypes.bfloat16)
    if GROUP_NORM.search(key) and array.ndim == 4 and array.shape[:3] == (1, 1, 1):
        array = array.reshape(-1)
    return array
