"""Decoding of stored examples to uint8 images of one size."""

import os

import numpy as np
import tensorflow as tf

from animesion_jax.preprocessing import ROUNDING, WHITE

# Batches that tf.data prepares ahead.
BATCHES_AHEAD = 2

HostBatch = dict[str, np.ndarray]


def decode(encoded: tf.Tensor | bytes) -> tf.Tensor:
    """Returns the (height, width, 3) uint8 image of JPEG or PNG bytes.

    Uses the accurate DCT, as Pillow does, so that predict, which has no TensorFlow, reads the same pixels.
    """
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def decode_and_resize(encoded: tf.Tensor, size: int, fit: str) -> tf.Tensor:
    """Returns the (size, size, 3) uint8 image of JPEG or PNG bytes, as `preprocessing.resize` does.

    With `fit` "pad" it takes 3 bytes for each pixel of the square: 75 MB for a longer side of 5,000 pixels.
    """
    image = _padded(decode(encoded)) if fit == "pad" else decode(encoded)
    # Antialiasing only affects sides that shrink, and its kernel takes twice as long.
    image = tf.cond(
        tf.reduce_all(tf.shape(image)[:2] <= size),
        lambda: tf.image.resize(image, (size, size), method="bilinear"),
        lambda: tf.image.resize(image, (size, size), method="bilinear", antialias=True),
    )
    # Bilinear weights are convex, so that values stay within [0, 255]; the cast truncates.
    return tf.cast(image + ROUNDING, tf.uint8)


def _padded(image: tf.Tensor) -> tf.Tensor:
    """Returns the image in the middle of a white square; an odd line of padding is at the right or at the bottom."""
    shape = tf.shape(image)[:2]
    missing = tf.unstack(tf.reduce_max(shape) - shape)
    paddings = [[each // 2, each - each // 2] for each in missing]
    return tf.pad(image, [*paddings, [0, 0]], constant_values=WHITE)


def decoded(records: tf.data.Dataset, size: int, fit: str) -> tf.data.Dataset:
    """Returns records with decoded (size, size, 3) uint8 images in the same order; decodes in parallel."""
    return records.map(
        lambda record: {**record, "image": decode_and_resize(record["image"], size, fit)},
        num_parallel_calls=os.cpu_count(),
        deterministic=True,
    )
