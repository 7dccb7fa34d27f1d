"""A split in evaluation batches: every example once, padded and masked."""

import itertools
import math
from collections.abc import Iterator

import ml_collections
import numpy as np

from animesion_jax.data.caches import choose_cache
from animesion_jax.data.datasets import Dataset, check_labels
from animesion_jax.data.decode import BATCHES_AHEAD, HostBatch, decoded
from animesion_jax.data.splits import group_bounds, select_examples


class EvalData:
    """A split in padded and masked batches: every example once, for any number of shards and devices.

    Attributes:
      num_examples: number of examples of the split, over all shards.
    """

    def __init__(
        self, config: ml_collections.ConfigDict, dataset: Dataset, split: str, num_shards: int = 1, shard_index: int = 0
    ):
        """Selects the examples.

        Args:
          config: its image_size, fit, eval_batch_size (over all shards), data.cache and those of `select_examples`.
          dataset: the data set.
          split: name of the split, see `select_examples`.
          num_shards, shard_index: number of readers, and the index of this one.

        Raises:
          InputError: see `select_examples`.
        """
        examples = select_examples(config, dataset, split)
        self._dataset, self._split, self.num_examples = dataset, split, examples.num_examples
        bounds = group_bounds(examples.num_examples, num_shards)
        self._batch_size = config.eval_batch_size // num_shards
        # All shards yield the number of batches of the largest, so that all processes join the same collectives.
        largest = max(stop - start for start, stop in itertools.pairwise(bounds))
        self._num_batches = math.ceil(largest / self._batch_size)
        self._size = config.image_size
        cache = choose_cache(config.data.cache, examples.num_examples * self._size * self._size * 3, 0)
        records = examples.records(bounds[shard_index], bounds[shard_index + 1])
        batches = decoded(records, self._size, config.fit).batch(self._batch_size)
        self._batches = (batches.cache() if cache == "decoded" else batches).prefetch(BATCHES_AHEAD)

    def batches(self) -> Iterator[HostBatch]:
        """Yields batches of one size: image, label and mask as in `TrainData.batches`; mask is 0 for padding."""
        done = 0
        for batch in self._batches.as_numpy_iterator():
            check_labels(batch["label"], self._dataset, self._split)
            yield pad_batch(batch, self._batch_size)
            done += 1
        empty = {"image": np.zeros((0, self._size, self._size, 3), np.uint8), "label": np.zeros(0, np.int32)}
        for _ in range(self._num_batches - done):
            yield pad_batch(empty, self._batch_size)


def pad_batch(batch: HostBatch, batch_size: int) -> HostBatch:
    """Returns the batch padded with zeros to `batch_size`, and a float32 "mask" that is 0 for the padding."""
    missing = batch_size - len(batch["label"])
    padded = {
        name: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        for name, array in batch.items()
    }
    return padded | {"mask": (np.arange(batch_size) < batch_size - missing).astype(np.float32)}
