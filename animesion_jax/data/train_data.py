"""The training split as shuffled uint8 batches in host memory; `steps.on_devices` hands them to the devices.

With `config.data.cache` "device" the decoded groups themselves are handed over, once, to `resident.ResidentData`.

The order of an epoch depends on (seed, epoch) only, on any number of hosts and devices: the records are dealt to
`read_groups` contiguous groups, every batch takes the same number from each group, and a host reads whole groups.
Each group has its own permutation, so the cached modes shuffle perfectly and share one order. Without a cache the
records stream through a shuffle buffer; the next epoch's fills while this one's empties.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator

import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from animesion_jax.data.caches import choose_cache
from animesion_jax.data.datasets import READING, Dataset, check_labels
from animesion_jax.data.decode import BATCHES_AHEAD, HostBatch, decoded
from animesion_jax.data.splits import group_bounds, select_examples
from animesion_jax.errors import InputError


def group_order(size: int, seed: int, epoch: int, group: int) -> np.ndarray:
    """Returns the (size,) int64 permutation of a group's records in one epoch."""
    return np.random.default_rng((seed, epoch, group)).permutation(size)


def steps_per_epoch(config: ml_collections.ConfigDict, dataset: Dataset) -> int:
    """Returns how many whole batches the training split has; InputError for less than one."""
    num_examples = select_examples(config, dataset, config.train_split).num_examples
    if config.batch_size > num_examples:
        raise InputError(
            f"batch_size {config.batch_size} is more than the {num_examples} examples of {dataset.name} "
            f"'{config.train_split}'; allowed: 1 to {num_examples}"
        )
    return num_examples // config.batch_size


def read_groups(config: ml_collections.ConfigDict, num_hosts: int) -> int:
    """Returns to how many groups the records are dealt; InputError where the hosts cannot share them."""
    num_groups = math.gcd(config.batch_size, config.data.read_groups)
    if num_groups % num_hosts:
        raise InputError(
            f"{num_hosts} hosts cannot share {num_groups} read groups (the greatest common divisor of batch_size "
            f"{config.batch_size} and data.read_groups {config.data.read_groups}); set "
            f"--config.data.read_groups to a multiple of {num_hosts} that divides the batch size"
        )
    return num_groups


class TrainData:
    """The training split as an endless sequence of host batches.

    Attributes:
      num_examples: those of the split.
      steps_per_epoch: num_examples // batch_size; the rest of an epoch is dropped, another one each epoch.
      cache: the cache in use, "decoded", "encoded" or "none"; or "device", with which there are no host batches.
      streamed: whether the order is that of a stream, which is another one than the caches'.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        dataset: Dataset,
        *,
        num_hosts: int = 1,
        host: int = 0,
        streamed: bool | None = None,
    ):
        """Chooses a cache; `streamed` as in `choose_cache`."""
        self.config = config
        self._examples = select_examples(config, dataset, config.train_split)
        num_examples = self._examples.num_examples
        self.steps_per_epoch = steps_per_epoch(config, dataset)
        self.num_examples = num_examples
        num_groups = read_groups(config, num_hosts)
        self._bounds = group_bounds(num_examples, num_groups)
        self._groups = range(host * num_groups // num_hosts, (host + 1) * num_groups // num_hosts)
        self._per_group = config.batch_size // num_groups
        self._size = config.image_size + config.crop_margin
        self.cache = choose_cache(
            config.data.cache,
            num_examples * self._size * self._size * 3 // num_hosts,
            self._examples.num_bytes // num_hosts,
            streamed=streamed,
        )
        self.streamed = self.cache == "none"
        self._epoch_batches: Callable[[int, int], Iterator[HostBatch]] | None = {
            "device": None,
            "decoded": self._decoded_epoch,
            "encoded": self._read_epoch,
            "none": self._read_epoch,
        }[self.cache]
        self._filled = self.cache in ("device", "none")
        self._epochs = config.epochs + config.rebalance_epochs
        self._ahead: dict[int, Iterator[HostBatch]] = {}
        # Building a group's records takes as long as decoding hundreds of images.
        self._group_records = functools.cache(self._records)

    def fill(self) -> None:
        """Reads what the host is to cache, unless that was done."""
        if not self._filled:
            {"decoded": self._read_decoded, "encoded": self._read_encoded}[self.cache]()
            self._filled = True

    def batches(self, start_step: int = 0, *, epochs: int | None = None) -> Iterator[HostBatch]:
        """Yields the batches from `start_step` on, without decoding those before it.

        A batch holds this host's share: "image" (batch, S + margin, S + margin, 3) uint8, "label" (batch,) int32
        and "mask" (batch,) float32 ones.

        Args:
          start_step: number of batches before the first.
          epochs: how many epochs, the rest of the first counted as one; None for endlessly many.
        """
        self.fill()
        epoch, skipped = divmod(start_step, self.steps_per_epoch)
        for _ in itertools.count() if epochs is None else range(epochs):
            for batch in self._epoch_batches(epoch, skipped):
                check_labels(batch["label"], self._examples.dataset, self.config.train_split)
                yield {**batch, "mask": np.ones(len(batch["label"]), np.float32)}
            epoch, skipped = epoch + 1, 0

    def file_names(self, step: int) -> list[str]:
        """Returns the names of the files in this host's share of the batch after `step` updates; reads them anew."""
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

    def _records(self, group: int, *, named: bool = False) -> tf.data.Dataset:
        return self._examples.records(self._bounds[group], self._bounds[group + 1], named=named)

    def orders(self, epoch: int, skipped: int = 0) -> np.ndarray:
        """Returns (steps, groups, per_group) places within the groups, for this host's groups."""
        orders = []
        for group in self._groups:
            size = self._bounds[group + 1] - self._bounds[group]
            order = group_order(size, self.config.seed, epoch, group)
            orders.append(order[: self.steps_per_epoch * self._per_group].reshape(-1, self._per_group))
        return np.stack(orders, axis=1)[skipped:]

    def decoded_groups(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (n, side, side, 3) uint8 images and (n,) int32 labels of each of this host's groups, with a bar."""
        total = self._bounds[self._groups.stop] - self._bounds[self._groups.start]
        # One bar for all hosts.
        quiet = None if self._groups.start == 0 else True
        with tqdm(total=total, desc=f"decoding {self.config.train_split}", unit="img", disable=quiet) as bar:
            for group in self._groups:
                size = self._bounds[group + 1] - self._bounds[group]
                images = np.empty((size, self._size, self._size, 3), np.uint8)
                labels = np.empty(size, np.int32)
                filled = 0
                for batch in decoded(self._records(group), self._size).batch(256).prefetch(2).as_numpy_iterator():
                    count = len(batch["label"])
                    images[filled : filled + count] = batch["image"]
                    labels[filled : filled + count] = batch["label"]
                    filled += count
                    bar.update(count)
                check_labels(labels, self._examples.dataset, self.config.train_split)
                yield images, labels

    def _read_decoded(self) -> None:
        self._images, self._labels = zip(*self.decoded_groups(), strict=True)

    def _decoded_epoch(self, epoch: int, skipped: int) -> Iterator[HostBatch]:
        for places in self.orders(epoch, skipped):
            images = np.empty((places.size, self._size, self._size, 3), np.uint8)
            for i, rows in enumerate(places):
                out = images[i * self._per_group : (i + 1) * self._per_group]
                np.take(self._images[i], rows, axis=0, out=out, mode="clip")
            labels = np.concatenate([self._labels[i][rows] for i, rows in enumerate(places)])
            yield {"image": images, "label": labels}

    def _read_encoded(self) -> None:
        # A list per field, of the records' own bytes: a tensor of them all would be a second copy while it is made.
        self._fields = self._records(self._groups.start).element_spec
        self._encoded: dict[str, list] = {name: [] for name in self._fields}
        for group in self._groups:
            for record in self._records(group).prefetch(1024).as_numpy_iterator():
                for name, value in record.items():
                    self._encoded[name].append(value)

    def _in_memory(self, epoch: int, skipped: int) -> tf.data.Dataset:
        """Returns the encoded records of an epoch, from the cache."""
        starts = [self._bounds[group] - self._bounds[self._groups.start] for group in self._groups]
        rows = self.orders(epoch, skipped) + np.asarray(starts)[:, None]
        # Whole batches pass from Python to TensorFlow: record by record that would take as long as decoding.
        batches = tf.data.Dataset.from_tensor_slices(rows.reshape(len(rows), -1)).map(self._encoded_batch)
        return batches.unbatch()

    def _encoded_batch(self, places: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the encoded records at (batch,) places, of `_read_encoded`, field by field."""

        def take(places: np.ndarray) -> list[np.ndarray]:
            return [
                np.asarray([self._encoded[name][place] for place in places.tolist()], field.dtype.as_numpy_dtype)
                for name, field in self._fields.items()
            ]

        taken = tf.numpy_function(take, [places], [field.dtype for field in self._fields.values()])
        return {
            name: tf.ensure_shape(values, (None, *field.shape))
            for (name, field), values in zip(self._fields.items(), taken, strict=True)
        }

    def _streamed(self, epoch: int, skipped: int, *, named: bool = False) -> tf.data.Dataset:
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

    def _read_epoch(self, epoch: int, skipped: int) -> Iterator[HostBatch]:
        """Yields an epoch's batches; begins the next one when no more is left than a shuffle buffer holds."""
        batches = None if skipped else self._ahead.pop(epoch, None)
        few = max(self.config.data.shuffle_buffer // self.config.batch_size, BATCHES_AHEAD)
        for step, batch in enumerate(batches or self._begin(epoch, skipped), start=skipped + 1):
            if epoch + 1 not in self._ahead and epoch + 1 < self._epochs and self.steps_per_epoch - step <= few:
                self._ahead = {epoch + 1: self._begin(epoch + 1, 0)}
            yield batch

    def _begin(self, epoch: int, skipped: int) -> Iterator[HostBatch]:
        """Returns an epoch's batches, the first of which are being made."""
        records = self._streamed(epoch, skipped) if self.streamed else self._in_memory(epoch, skipped)
        batches = decoded(records, self._size).batch(len(self._groups) * self._per_group, drop_remainder=True)
        at_once = tf.data.Options()
        at_once.experimental_warm_start = True
        return batches.prefetch(BATCHES_AHEAD).with_options(READING.merge(at_once)).as_numpy_iterator()
