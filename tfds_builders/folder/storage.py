"""What is stored of a picture: bytes of which training decodes the pixels that predict sees of the file."""

import io
import os
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from animesion_jax.data.decode import decode
from animesion_jax.images import read_image

# How files begin that TensorFlow may be able to read as they are.
READ_BY_TENSORFLOW = (b"\xff\xd8\xff", b"\x89PNG")
# A larger picture of another kind becomes a JPEG. As a PNG it could take many times its file, and at a model's size,
# a fraction of its own, nothing of the difference is left but rounding.
MAX_PNG_PIXELS = 2**20
JPEG_QUALITY = 95
# So many are held in memory while they wait to be written.
CHUNK = 64


def can_stay(path: Path, image: Image.Image) -> bool:
    """Returns whether TensorFlow decodes a file's bytes to the pixels of `image`, which is what Pillow made of them."""
    encoded = path.read_bytes()
    if not encoded.startswith(READ_BY_TENSORFLOW):
        return False
    try:
        return np.array_equal(decode(encoded).numpy(), np.asarray(image))
    except tf.errors.OpError:
        return False


def to_store(path: Path, stays: bool) -> bytes:
    """Returns the bytes to store of a file: its own if it `can_stay`, else those of a PNG, or of a JPEG if large."""
    if stays:
        return path.read_bytes()
    image, encoded = read_image(path), io.BytesIO()
    if image.width * image.height <= MAX_PNG_PIXELS:
        image.save(encoded, "PNG")
    else:
        image.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return encoded.getvalue()


def store_all(files: Sequence[tuple[Path, bool]]) -> Iterator[bytes]:
    """Yields what `to_store` returns of each of (path, whether it stays), in order; they are made on every core."""
    with ThreadPool(os.cpu_count()) as pool:
        for start in range(0, len(files), CHUNK):
            yield from pool.starmap(to_store, files[start : start + CHUNK])
