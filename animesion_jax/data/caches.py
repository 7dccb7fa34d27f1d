"""Caches of a run in host memory: the choice between decoded images, encoded ones and none."""

from collections.abc import Iterable

import numpy as np
import psutil
import tensorflow as tf

# "auto" uses at most this fraction of the free memory.
CACHE_FRACTION = 0.5


def choose_cache(cache: str, decoded_bytes: int, encoded_bytes: int, *, streamed: bool | None = None) -> str:
    """Returns the cache to use; "auto" takes the first of "decoded", "encoded" and "none" that fits half the memory.

    Args:
      cache: value of config.data.cache.
      decoded_bytes, encoded_bytes: size of either cache.
      streamed: whether the run began with the order of a stream, which "auto" then keeps; None for a new run.
    """
    if cache != "auto":
        return cache
    if streamed:
        return "none"
    budget = CACHE_FRACTION * psutil.virtual_memory().available
    if decoded_bytes <= budget:
        return "decoded"
    return "encoded" if encoded_bytes <= budget or streamed is False else "none"


class EncodedCache:
    """Encoded records, to be read in any order.

    Keeps a list per field of the bytes that tf.data returned. Making tensors would need a second copy.
    """

    def __init__(self, records: Iterable[tf.data.Dataset]):
        """Reads the records of all data sets, which have the same fields, into memory."""
        self._specs: dict[str, tf.TensorSpec] = {}
        self._values: dict[str, list] = {}
        for part in records:
            self._specs = part.element_spec
            for record in part.prefetch(1024).as_numpy_iterator():
                for name, value in record.items():
                    self._values.setdefault(name, []).append(value)

    def in_order(self, batches: np.ndarray) -> tf.data.Dataset:
        """Returns single records in the order of a (batches, batch) array of their indices."""
        # Pass whole batches from Python to TensorFlow: single records would take as long as decoding.
        return tf.data.Dataset.from_tensor_slices(batches).map(self._take).unbatch()

    def _take(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the fields of the records at (batch,) indices."""

        def take(indices: np.ndarray) -> list[np.ndarray]:
            return [
                np.asarray([self._values[name][index] for index in indices.tolist()], spec.dtype.as_numpy_dtype)
                for name, spec in self._specs.items()
            ]

        taken = tf.numpy_function(take, [indices], [spec.dtype for spec in self._specs.values()])
        return {
            name: tf.ensure_shape(values, (None, *spec.shape))
            for (name, spec), values in zip(self._specs.items(), taken, strict=True)
        }
