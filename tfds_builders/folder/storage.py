"""The stored bytes of an image: training decodes them to the pixels that `predict` reads from the file."""

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
from animesion_jax.preprocessing import Box

# Signatures of JPEG and PNG, the formats that training decodes.
DECODABLE = (b"\xff\xd8\xff", b"\x89PNG")
# Larger images of other formats are stored as JPEG. As PNG they could take many times the size of their file, and
# resized to a model's input they differ by rounding only.
MAX_PNG_PIXELS = 2**20
JPEG_QUALITY = 95
# Number of encoded images in memory while TFDS writes them.
CHUNK = 64


def is_decoded_alike(path: Path, image: Image.Image) -> bool:
    """Returns whether TensorFlow decodes a file to the same pixels as Pillow, whose RGB result is `image`."""
    encoded = path.read_bytes()
    if not encoded.startswith(DECODABLE):
        return False
    try:
        return np.array_equal(decode(encoded).numpy(), np.asarray(image))
    except tf.errors.OpError:
        return False


def encode(path: Path, keep_bytes: bool, box: Box | None = None) -> bytes:
    """Returns the bytes to store of a file: its own with `keep_bytes`, else a PNG, or a JPEG of a large image.

    With a box, in pixels of the image, that part is the image.
    """
    if keep_bytes:
        return path.read_bytes()
    image, encoded = read_image(path), io.BytesIO()
    if box:
        image = image.crop(box)
    if image.width * image.height <= MAX_PNG_PIXELS:
        image.save(encoded, "PNG")
    else:
        image.save(encoded, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return encoded.getvalue()


def encode_all(files: Sequence[tuple[Path, bool, Box | None]]) -> Iterator[bytes]:
    """Yields `encode(path, keep_bytes, box)` of every file in order; works on every core."""
    with ThreadPool(os.cpu_count()) as pool:
        for start in range(0, len(files), CHUNK):
            yield from pool.starmap(encode, files[start : start + CHUNK])
