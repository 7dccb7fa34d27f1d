"""Batches on the devices: copied there two batches ahead, or gathered from a split that stays on the devices."""

import collections
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from animesion_jax.distributed import local_devices, split
from animesion_jax.errors import InputError

# Share of a device's memory for the split; the model and its activations need the rest.
MAX_MEMORY = 0.8
WORD = 4  # bytes
BATCHES_IN_FLIGHT = 2

Batch = dict[str, Any]


def words_of(side: int) -> int:
    """Returns how many 32-bit words hold the bytes of a square image."""
    return math.ceil(3 * side * side / WORD)


def check_fits(devices: Sequence[jax.Device], num_groups: int, group_size: int, side: int) -> None:
    """Raises InputError unless this process's devices can share and hold its groups of the training split.

    Args:
      devices: of all processes.
      num_groups: groups of this process.
      group_size: records of the largest group.
      side: of the square images, pixels.
    """
    local = local_devices(devices)
    if num_groups % len(local):
        raise InputError(
            f"config.data.cache is 'device', and {len(local)} devices cannot share {num_groups} groups of records; set "
            f"--config.data.read_groups to a multiple of {len(devices)} that divides the batch size, or "
            "--config.data.cache=decoded"
        )
    needed = num_groups // len(local) * group_size * words_of(side) * WORD
    limit = (local[0].memory_stats() or {}).get("bytes_limit")
    if limit and needed > MAX_MEMORY * limit:
        raise InputError(
            f"config.data.cache is 'device', and {needed / 2**30:.1f} GiB of images do not fit a device of "
            f"{limit / 2**30:.1f} GiB beside the model; allowed: --config.data.cache=decoded, or more devices"
        )


class ResidentData:
    """The decoded training split on this process's devices; each device holds the groups of its part of a batch.

    Images are rows of 32-bit words: DAF:re has 2.5e10 bytes at 160 px, and compiled programs index with 31 bits.
    """

    def __init__(
        self,
        devices: Sequence[jax.Device],
        num_groups: int,
        group_size: int,
        side: int,
        groups: Iterable[tuple[np.ndarray, np.ndarray]],
    ):
        """Puts the groups on the devices, one after the other.

        Args:
          devices, num_groups, group_size, side: as in `check_fits`.
          groups: (n, side, side, 3) uint8 images and (n,) int32 labels of each of this process's groups.

        Raises:
          InputError: as `check_fits`.
        """
        check_fits(devices, num_groups, group_size, side)
        self._devices = local_devices(devices)
        self._slots = num_groups // len(self._devices)
        width = words_of(side)
        images, labels = [], []
        for place, (pixels, classes) in enumerate(groups):
            device = self._devices[place // self._slots]
            rows = np.zeros((1, group_size, width * WORD), np.uint8)
            rows[0, : len(pixels), : math.prod(pixels.shape[1:])] = pixels.reshape(len(pixels), -1)
            images.append(jax.device_put(rows.view(np.uint32), device))
            labels.append(jax.device_put(np.resize(classes, (1, group_size)).astype(np.int32), device))
        # The first group of every device, then the second of every device, ...
        self._images, self._labels = (
            tuple(self._sharded(each[slot :: self._slots]) for slot in range(self._slots)) for each in (images, labels)
        )

    def _sharded(self, parts: list[jax.Array]) -> jax.Array:
        """Returns one array with a leading device axis of each device's part."""
        shape = (len(parts), *parts[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, split(self._devices), parts)

    def epoch(self, orders: np.ndarray, first_step: int, skipped: int) -> Iterator[Batch]:
        """Yields, for each remaining step of an epoch, the input from which `take` gathers its batch.

        Args:
          orders: (steps, groups, per_group) places within this process's groups.
          first_step: number of updates before the epoch.
          skipped: number of the epoch's updates that are done.
        """
        steps, per_group = orders.shape[0], orders.shape[-1]
        by_device = orders.reshape(steps, len(self._devices), self._slots, per_group).swapaxes(0, 1).astype(np.int32)
        first = np.full(len(self._devices), first_step, np.int32)
        order, first = jax.device_put((np.ascontiguousarray(by_device), first), split(self._devices))
        batch = {"images": self._images, "labels": self._labels, "order": order, "first_step": first}
        for _ in range(skipped, steps):
            yield batch


def take(batch: Batch, step: jax.Array) -> Batch:
    """Returns the batch of a training step; gathers it if it comes from `ResidentData.epoch`.

    Args:
      batch: of one device, without the device axis.
      step: int32 number of updates done.

    Returns:
      {"image": (batch, S, S, 3) uint8, "label": (batch,) int32, "mask": (batch,) float32}.
    """
    if "order" not in batch:
        return batch
    places = jax.lax.dynamic_index_in_dim(batch["order"], step - batch["first_step"], keepdims=False)

    def gather(groups: tuple[jax.Array, ...]) -> jax.Array:
        """Returns the rows at a batch's places."""
        parts = [group.at[rows].get(mode="promise_in_bounds") for group, rows in zip(groups, places, strict=True)]
        return jnp.concatenate(parts)

    words, labels = gather(batch["images"]), gather(batch["labels"])
    # A row has 3 * side^2 bytes and up to three more.
    side = math.isqrt(words.shape[1] * WORD // 3)
    pixels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(len(words), -1)[:, : 3 * side * side]
    return {
        "image": pixels.reshape(-1, side, side, 3),
        "label": labels,
        "mask": jnp.ones(labels.shape, jnp.float32),
    }


def on_devices(
    batches: Iterable[dict[str, np.ndarray]], devices: Sequence[jax.Device]
) -> Iterator[dict[str, jax.Array]]:
    """Yields each batch with a leading device axis on this process's devices, copied there two batches ahead.

    A batch is this process's share of the global batch.
    """
    devices = local_devices(devices)
    sharding = split(devices)

    def put(batch: dict[str, np.ndarray]) -> Batch:
        return jax.device_put(
            {name: array.reshape(len(devices), -1, *array.shape[1:]) for name, array in batch.items()},
            sharding,
        )

    waiting: collections.deque[Batch] = collections.deque()
    for batch in batches:
        waiting.append(put(batch))
        if len(waiting) >= BATCHES_IN_FLIGHT:
            yield waiting.popleft()
    yield from waiting
