"""The training split as shuffled uint8 batches in host memory.

The order of an epoch depends on (seed, epoch) only, for any number of shards and devices. The records are divided into
`read_groups` contiguous groups. Every batch takes the same number from each group, and a shard reads whole groups.
Each group has its own permutation, so that the cached modes shuffle perfectly and share one order. Without a cache the
records stream through a shuffle buffer; the next epoch's buffer fills while this one's empties.

With `config.data.cache` "device" the training takes the decoded groups once and keeps them on the devices.
"""

import functools
import itertools
import math
from collections.abc import Iterator

import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from animesion_jax.data.caches import EncodedCache, choose_cache
from animesion_jax.data.datasets import READING, Dataset, check_labels
from animesion_jax.data.decode import BATCHES_AHEAD, HostBatch, decoded
from animesion_jax.data.splits import group_bounds, select_examples
from animesion_jax.errors import InputError


def steps_per_epoch(config: ml_collections.ConfigDict, dataset: Dataset) -> int:
    """Returns the number of whole batches of the training split; InputError if it has none."""
    num_examples = select_examples(config, dataset, config.train_split).num_examples
    if config.batch_size > num_examples:
        raise InputError(
            f"batch_size {config.batch_size} is more than the {num_examples} examples of {dataset.name} "
            f"'{config.train_split}'; allowed: 1 to {num_examples}"
        )
    return num_examples // config.batch_size


def read_groups(config: ml_collections.ConfigDict, num_shards: int) -> int:
    """Returns the number of groups of records; InputError if the shards cannot divide them evenly."""
    num_groups = math.gcd(config.batch_size, config.data.read_groups)
    if num_groups % num_shards:
        raise InputError(
            f"{num_shards} processes cannot share {num_groups} read groups (the greatest common divisor of batch_size "
            f"{config.batch_size} and data.read_groups {config.data.read_groups}); set "
            f"--config.data.read_groups to a multiple of {num_shards} that divides the batch size"
        )
    return num_groups


class TrainData:
    """The training split as an endless sequence of batches in host memory.

    Attributes:
      num_examples: number of examples of the split, over all shards.
      steps_per_epoch: num_examples // batch_size; each epoch drops another remainder.
      cache: the cache in use: "decoded", "encoded" or "none"; or "device", which has no host batches.
      streamed: whether the order is that of a stream, which differs from the order of the caches.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        dataset: Dataset,
        *,
        epochs: int | None = None,
        num_shards: int = 1,
        shard_index: int = 0,
        streamed: bool | None = None,
    ):
        """Selects the examples and chooses a cache, but reads nothing.

        Args:
          config: see `animesion_jax.configs.common`.
          dataset: the data set.
          epochs: epochs of the whole run, to prepare no epoch after the last; None for no limit.
          num_shards, shard_index: number of readers, and the index of this one.
          streamed: see `choose_cache`.

        Raises:
          InputError: see `select_examples`, `steps_per_epoch` and `read_groups`.
        """
        self.config = config
        self._examples = select_examples(config, dataset, config.train_split)
        self.num_examples = self._examples.num_examples
        self.steps_per_epoch = steps_per_epoch(config, dataset)
        num_groups = read_groups(config, num_shards)
        self._bounds = group_bounds(self.num_examples, num_groups)
        self._groups = range(shard_index * num_groups // num_shards, (shard_index + 1) * num_groups // num_shards)
        self._per_group = config.batch_size // num_groups
        self._size = config.image_size + config.crop_margin
        self.cache = choose_cache(
            config.data.cache,
            self.num_examples * self._size * self._size * 3 // num_shards,
            self._examples.num_bytes // num_shards,
            streamed=streamed,
        )
        self.streamed = self.cache == "none"
        self._decoded: list[tuple[np.ndarray, np.ndarray]] | None = None
        self._encoded: EncodedCache | None = None
        self._epochs = math.inf if epochs is None else epochs
        self._ahead: dict[int, Iterator[HostBatch]] = {}
        # Building the records of a group takes as long as decoding hundreds of images.
        self._group_records = functools.cache(self._records)

    def fill(self) -> None:
        """Fills the cache in host memory, if any, with the records of this shard; a second call does nothing."""
        if self.cache == "decoded" and self._decoded is None:
            self._decoded = list(self.decoded_groups())
        elif self.cache == "encoded" and self._encoded is None:
            self._encoded = EncodedCache(map(self._records, self._groups))

    def batches(self, start_step: int = 0, *, epochs: int | None = None) -> Iterator[HostBatch]:
        """Yields this shard's batches from `start_step` on, without decoding earlier ones.

        A batch is {"image": (batch, S + margin, S + margin, 3) uint8, "label": (batch,) int32, "mask": (batch,) float32
        ones}.

        Args:
          start_step: number of batches before the first.
          epochs: number of epochs, counting the rest of the first as one; None for no limit.

        Raises:
          InputError: a label is not a class id.
        """
        self.fill()
        read = self._epoch_from_memory if self.cache == "decoded" else self._epoch_from_records
        epoch, skipped = divmod(start_step, self.steps_per_epoch)
        for _ in itertools.count() if epochs is None else range(epochs):
            for batch in read(epoch, skipped):
                check_labels(batch["label"], self._examples.dataset, self.config.train_split)
                yield {**batch, "mask": np.ones(len(batch["label"]), np.float32)}
            epoch, skipped = epoch + 1, 0

    def file_names(self, step: int) -> list[str]:
        """Returns the file names of this shard's batch after `step` updates; reads them from disk."""
        epoch, skipped = divmod(step, self.steps_per_epoch)
        if self.streamed:
            size = len(self._groups) * self._per_group
            batch = self._streamed(epoch, skipped, named=True).take(size)
            names = [record["filename"] for record in batch.as_numpy_iterator()]
        else:
            names = []
            for group, rows in zip(self._groups, self.orders(epoch, skipped)[0], strict=True):
                in_group = [record["filename"] for record in self._records(group, named=True).as_numpy_iterator()]
                names += [in_group[row] for row in rows]
        return [name.decode(errors="replace") for name in names]

    def orders(self, epoch: int, skipped: int = 0) -> np.ndarray:
        """Returns the (steps, groups, per_group) indices within each group for this shard's groups."""
        orders = []
        for group in self._groups:
            size = self._bounds[group + 1] - self._bounds[group]
            order = np.random.default_rng((self.config.seed, epoch, group)).permutation(size)
            orders.append(order[: self.steps_per_epoch * self._per_group].reshape(-1, self._per_group))
        return np.stack(orders, axis=1)[skipped:]

    def decoded_groups(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (n, side, side, 3) uint8 images and (n,) int32 labels of each of this shard's groups.

        The first shard shows a progress bar.
        """
        total = self._bounds[self._groups.stop] - self._bounds[self._groups.start]
        disable = None if self._groups.start == 0 else True
        with tqdm(total=total, desc=f"decoding {self.config.train_split}", unit="img", disable=disable) as bar:
            for group in self._groups:
                size = self._bounds[group + 1] - self._bounds[group]
                images = np.empty((size, self._size, self._size, 3), np.uint8)
                labels = np.empty(size, np.int32)
                start = 0
                for batch in self._decode(self._records(group)).batch(256).prefetch(2).as_numpy_iterator():
                    stop = start + len(batch["label"])
                    images[start:stop], labels[start:stop] = batch["image"], batch["label"]
                    bar.update(stop - start)
                    start = stop
                check_labels(labels, self._examples.dataset, self.config.train_split)
                yield images, labels

    def _records(self, group: int, *, named: bool = False) -> tf.data.Dataset:
        return self._examples.records(self._bounds[group], self._bounds[group + 1], named=named)

    def _decode(self, records: tf.data.Dataset) -> tf.data.Dataset:
        return decoded(records, self._size, self.config.fit)

    def _epoch_from_memory(self, epoch: int, skipped: int) -> Iterator[HostBatch]:
        """Yields an epoch's batches from the decoded cache."""
        for groups in self.orders(epoch, skipped):
            images = np.empty((groups.size, self._size, self._size, 3), np.uint8)
            for i, rows in enumerate(groups):
                out = images[i * self._per_group : (i + 1) * self._per_group]
                np.take(self._decoded[i][0], rows, axis=0, out=out, mode="clip")
            labels = np.concatenate([self._decoded[i][1][rows] for i, rows in enumerate(groups)])
            yield {"image": images, "label": labels}

    def _epoch_from_records(self, epoch: int, skipped: int) -> Iterator[HostBatch]:
        """Yields an epoch's batches; begins the next epoch once a shuffle buffer holds the rest of this one."""
        batches = None if skipped else self._ahead.pop(epoch, None)
        few = max(self.config.data.shuffle_buffer // self.config.batch_size, BATCHES_AHEAD)
        for step, batch in enumerate(batches or self._begin(epoch, skipped), start=skipped + 1):
            if epoch + 1 not in self._ahead and epoch + 1 < self._epochs and self.steps_per_epoch - step <= few:
                self._ahead = {epoch + 1: self._begin(epoch + 1, 0)}
            yield batch

    def _begin(self, epoch: int, skipped: int) -> Iterator[HostBatch]:
        """Returns an iterator of an epoch's batches that prepares the first ones right away."""
        records = self._streamed(epoch, skipped) if self.streamed else self._cached(epoch, skipped)
        batches = self._decode(records).batch(len(self._groups) * self._per_group, drop_remainder=True)
        at_once = tf.data.Options()
        at_once.experimental_warm_start = True
        return batches.prefetch(BATCHES_AHEAD).with_options(READING.merge(at_once)).as_numpy_iterator()

    def _cached(self, epoch: int, skipped: int) -> tf.data.Dataset:
        """Returns the encoded records of an epoch from the cache."""
        starts = [self._bounds[group] - self._bounds[self._groups.start] for group in self._groups]
        indices = self.orders(epoch, skipped) + np.asarray(starts)[:, None]
        return self._encoded.in_order(indices.reshape(len(indices), -1))

    def _streamed(self, epoch: int, skipped: int, *, named: bool = False) -> tf.data.Dataset:
        """Returns the encoded records of an epoch from disk, each group through its own shuffle buffer."""
        buffer = max(self.config.data.shuffle_buffer // (len(self._bounds) - 1), 1)
        streams = []
        for group in self._groups:
            seed = int(np.random.default_rng((self.config.seed, epoch, group)).integers(1, 2**31))
            stream = self._group_records(group, named=named).shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
            streams.append(stream.skip(skipped * self._per_group))
        steps = self.steps_per_epoch - skipped
        choice = np.tile(np.repeat(np.arange(len(streams)), self._per_group), steps).astype(np.int64)
        return tf.data.Dataset.choose_from_datasets(
            streams, tf.data.Dataset.from_tensor_slices(choice), stop_on_empty_dataset=False
        )
