"""A msgpack reader whose memory is bounded by the size of the file, not by the lengths that the file declares."""

import itertools
from typing import Any, BinaryIO

import msgpack
import numpy as np

# Use msgpack's reader in Python. The one in C allocates the declared length of each list before it reads the list, for
# up to a thousand nested lists. Most of a bundle is in a few arrays, so both are equally fast.
from msgpack import fallback

# The deepest model has about 600 modules.
MAX_CONTAINERS = 20_000
MAX_DIMENSIONS = 8
# flax.serialization stores arrays as this extension type, and those above 1 GiB as a dict of flat parts.
ARRAY = 1
CHUNKED = "__msgpack_chunked_array__"


def read_tree(stream: BinaryIO, length: int) -> Any:
    """Returns the tree of dicts, lists, strings, numbers and float32 arrays in `length` bytes of msgpack.

    Raises:
      Exception: ValueError, or any other type that msgpack and NumPy raise on damaged bytes.
    """
    numbers = itertools.count(1)

    def counted(container: Any) -> Any:
        if next(numbers) > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} lists and dicts")
        return container

    unpacker = fallback.Unpacker(
        stream,
        max_buffer_size=max(length, 1),
        ext_hook=_array,
        list_hook=counted,
        object_hook=lambda pairs: _join_chunks(counted(pairs)),
    )
    tree = unpacker.unpack()
    if unpacker.tell() != length:
        raise ValueError(f"{length - unpacker.tell()} bytes after the end")
    return tree


def _array(code: int, data: bytes) -> np.ndarray:
    if code != ARRAY:
        raise ValueError(f"extension type {code}; allowed: {ARRAY}, an array")
    shape, dtype, content = msgpack.unpackb(data, raw=True, max_array_len=MAX_DIMENSIONS, max_map_len=0)
    if dtype != b"float32":
        raise ValueError(f"an array of {str(dtype)[:20]}; allowed: float32")
    return np.frombuffer(content, np.float32).reshape(shape)


def _join_chunks(pairs: dict[Any, Any]) -> Any:
    if CHUNKED not in pairs:
        return pairs
    shape, chunks = ([pairs[part][str(place)] for place in range(len(pairs[part]))] for part in ("shape", "chunks"))
    return np.concatenate(chunks).reshape(shape)
