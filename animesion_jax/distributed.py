"""Several processes, each with some of the devices, as one run: who writes, sums and votes, shardings of arrays.

A `jax.pmap` takes and returns arrays on the devices of its process; Orbax reads and writes arrays on all devices. With
one process every function here is trivial.
"""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from animesion_jax.errors import InputError, first_line

AXIS = "batch"
ANSWERS_UNREAD = 2


def initialize(coordinator_address: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes of a run; call it before anything asks for devices.

    Args:
      coordinator_address: "HOST:PORT" of process 0, with a free port. Leave all three None on TPU pods, under SLURM and
        under Open MPI, where JAX detects them.
      num_processes: number of processes.
      process_id: number of this process, from 0.

    Raises:
      InputError: an argument is missing or out of range, or the processes do not find each other.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is None for value in given) and any(value is not None for value in given):
        raise InputError(
            "one of --coordinator_address, --num_processes and --process_id is missing; allowed: all three, or none on "
            "TPU pods and under SLURM"
        )
    if num_processes is not None and not 0 <= process_id < num_processes:
        raise InputError(f"--process_id is {process_id}; allowed: 0 to {num_processes - 1}")
    # JAX's own service would catch SIGTERM before preemption.py does.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes do not find each other ({first_line(error)}); give every one the same "
            "--coordinator_address=HOST:PORT and --num_processes, and its own --process_id"
        ) from error


def is_first() -> bool:
    """Returns whether this process is the one that writes files and messages."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Blocks until every process has called this; `what` names the call."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def total(value: Any) -> Any:
    """Returns the sum over all processes of a number or array, at every process."""
    return multihost_utils.process_allgather(np.asarray(value)).sum(axis=0) if jax.process_count() > 1 else value


def any_process(yes: bool) -> bool:
    """Returns, at every process, whether `yes` is true at any of them."""
    return bool(total(int(yes)))


class Agreement:
    """A non-blocking vote among processes: every process gets the same answer a few calls later."""

    def __init__(self):
        self._sum = jax.pmap(lambda yes: jax.lax.psum(yes, AXIS), axis_name=AXIS)
        self._unread: collections.deque[jax.Array] = collections.deque()
        self._answer = False

    def vote(self, yes: bool) -> bool:
        """Votes, and returns whether any process voted yes at least `ANSWERS_UNREAD` calls ago."""
        self._unread.append(self._sum(np.full(jax.local_device_count(), yes, np.float32)))
        if len(self._unread) > ANSWERS_UNREAD:
            self._answer |= bool(np.asarray(self._unread.popleft()).max() > 0)
        return self._answer


def shard() -> dict[str, int]:
    """Returns which shard of the examples this process reads, as keyword arguments of the classes in `data`."""
    return {"num_shards": jax.process_count(), "shard_index": jax.process_index()}


def local_devices(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Returns the devices that belong to this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def replicated(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding that copies an array to each of the devices."""
    return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec())


def split(devices: Sequence[jax.Device]) -> NamedSharding:
    """Returns the sharding that splits the first axis of an array among the devices."""
    return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), PartitionSpec(AXIS))


def to_global(tree: Any) -> Any:
    """Returns arrays of this process's devices, equal at every process, as arrays of all devices, for Orbax."""
    if jax.process_count() == 1:
        return tree
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def abstract_global(tree: Any, devices: Sequence[jax.Device] | None) -> Any:
    """Returns the shapes, dtypes and shardings with which Orbax restores a tree to each of the devices.

    `devices` None is the first device, or all devices with several processes.
    """
    if devices is None and jax.process_count() == 1:
        sharding = SingleDeviceSharding(jax.local_devices()[0])
    else:
        sharding = replicated(devices or jax.devices())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def to_local(tree: Any, devices: Sequence[jax.Device] | None) -> Any:
    """Returns restored arrays as arrays of this process's devices, for its steps."""
    if jax.process_count() == 1:
        return tree
    mesh = Mesh(np.asarray(devices or jax.devices()), (AXIS,))
    return multihost_utils.global_array_to_host_local_array(tree, mesh, PartitionSpec())


def print_once(text: str) -> None:
    """Prints at the first process."""
    if is_first():
        print(text)
