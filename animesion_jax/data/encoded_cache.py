"""A cache of encoded records in host memory."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf


class EncodedCache:
    """Encoded records, to be read in any order.

    Keeps a list per field of the bytes that tf.data returned. Tensors would be a second copy while they are made.
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
