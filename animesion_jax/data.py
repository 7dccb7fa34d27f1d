"""Examples decoded to uint8 images, the choice of what is cached, and the batches of a split that is evaluated."""

import itertools
import math
import os
from collections.abc import Iterator

import ml_collections
import numpy as np
import psutil
import tensorflow as tf

from animesion_jax.augment import ROUNDING
from animesion_jax.datasets import Dataset, check_labels, select_examples
from animesion_jax.errors import InputError

CACHES = ("auto", "device", "decoded", "encoded", "none")
# "auto" leaves this part of the free memory to the rest of the program.
CACHE_FRACTION = 0.5
BATCHES_AHEAD = 2

HostBatch = dict[str, np.ndarray]


def decode(encoded: tf.Tensor | bytes) -> tf.Tensor:
    """Returns the (height, width, 3) uint8 image of JPEG or PNG bytes.

    The accurate DCT is Pillow's, so that predict, which has no TensorFlow, sees the same pixels.
    """
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def decode_and_resize(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the (size, size, 3) uint8 image of JPEG or PNG bytes; bilinear, antialiased, aspect not kept."""
    image = decode(encoded)
    # Antialiasing changes nothing where no side shrinks, and its kernel takes twice as long.
    image = tf.cond(
        tf.reduce_all(tf.shape(image)[:2] <= size),
        lambda: tf.image.resize(image, (size, size), method="bilinear"),
        lambda: tf.image.resize(image, (size, size), method="bilinear", antialias=True),
    )
    # Bilinear weights are convex: no value leaves [0, 255], and the cast cuts off the fraction.
    return tf.cast(image + ROUNDING, tf.uint8)


def group_bounds(num_examples: int, num_groups: int) -> list[int]:
    """Returns the num_groups + 1 bounds that deal the records to contiguous groups of nearly equal size."""
    return [num_examples * group // num_groups for group in range(num_groups + 1)]


def choose_cache(
    cache: str,
    decoded_bytes: int,
    encoded_bytes: int,
    available: int | None = None,
    *,
    streamed: bool | None = None,
) -> str:
    """Returns the cache to use; "auto" takes the first of "decoded", "encoded" and "none" that half the memory holds.

    Args:
      cache: one of `CACHES`.
      decoded_bytes, encoded_bytes: what either cache would hold.
      available: free memory in bytes; None asks the system.
      streamed: whether the run has begun with the order of a stream, which "auto" keeps to whatever the memory; None
        for a new run.
    """
    if cache not in CACHES:
        raise InputError(f"unknown data.cache '{cache}'; allowed: {', '.join(CACHES)}")
    if cache != "auto":
        return cache
    if streamed:
        return "none"
    budget = CACHE_FRACTION * (psutil.virtual_memory().available if available is None else available)
    if decoded_bytes <= budget:
        return "decoded"
    return "encoded" if encoded_bytes <= budget or streamed is False else "none"


class EvalData:
    """A split in padded and masked host batches: every example once, on any number of hosts and devices."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        dataset: Dataset,
        split: str,
        *,
        num_hosts: int = 1,
        host: int = 0,
    ):
        examples = select_examples(config, dataset, split)
        self._dataset, self._split = dataset, split
        self.num_examples = examples.num_examples
        bounds = group_bounds(self.num_examples, num_hosts)
        self._batch_size = config.eval_batch_size // num_hosts
        # The largest share decides, so that every host takes part in the same number of collectives.
        largest = max(stop - start for start, stop in itertools.pairwise(bounds))
        self._num_batches = math.ceil(largest / self._batch_size)
        self._size = config.image_size
        cache = choose_cache(config.data.cache, self.num_examples * self._size * self._size * 3, 0)
        batches = decoded(examples.records(bounds[host], bounds[host + 1]), self._size).batch(self._batch_size)
        self._batches = (batches.cache() if cache == "decoded" else batches).prefetch(BATCHES_AHEAD)

    def batches(self) -> Iterator[HostBatch]:
        """Yields batches of one size; "mask" is 0 for the padding at the end, else as `TrainData.batches`."""
        done = 0
        for batch in self._batches.as_numpy_iterator():
            check_labels(batch["label"], self._dataset, self._split)
            yield pad_batch(batch, self._batch_size)
            done += 1
        empty = {
            "image": np.zeros((0, self._size, self._size, 3), np.uint8),
            "label": np.zeros((0,), np.int32),
        }
        for _ in range(self._num_batches - done):
            yield pad_batch(empty, self._batch_size)


def decoded(records: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Returns records with decoded (size, size, 3) uint8 images, in the same order, decoded in parallel."""
    return records.map(
        lambda record: {**record, "image": decode_and_resize(record["image"], size)},
        num_parallel_calls=os.cpu_count(),
        deterministic=True,
    )


def pad_batch(batch: HostBatch, batch_size: int) -> HostBatch:
    """Returns the batch with zeros up to `batch_size` and a float32 "mask" that is 0 for them."""
    missing = batch_size - len(batch["label"])
    padded = {
        name: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        for name, array in batch.items()
    }
    return padded | {"mask": (np.arange(batch_size) < batch_size - missing).astype(np.float32)}
