"""Prints the speed of training with its data, relative to the speed of its steps alone, for each cache.

GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
    python benchmarks/end_to_end.py --config=configs/dafre_128.py:vit_b32 --config.data_dir=DATA

GLIBC_TUNABLES is the Makefile's setting. The first epoch fills caches and compiles; it does not count. Then rounds of
steps on batches of the data alternate with rounds of as many steps on one batch that stays on the device. So other
processes slow both. The median of the rounds' quotients is printed. No round evaluates or saves.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from animesion_jax.cli.train import parse_args
from animesion_jax.training.components import TrainBatches, make_components
from animesion_jax.training.device_data import on_devices

CACHES = ("none", "encoded", "decoded", "device")
ROUNDS = 7
SECONDS_PER_ROUND = 4.0


def endless(batches: Any, steps_per_epoch: int) -> Iterator[Any]:
    """Yields the batches of the training steps, epoch after epoch."""
    for step in itertools.count(step=steps_per_epoch):
        yield from batches.epoch_from(step)


class Steps:
    """A training state, its compiled step, and the batches that it consumes."""

    def __init__(self, components: Any, batches: Iterator[Any]):
        (stage,) = components.stages
        self._batches, self._step = batches, stage.train_step(0)
        self._state = stage.begin(components.initial_variables()[0])
        self.seconds(1)  # compiles

    def seconds(self, count: int) -> float:
        """Runs `count` steps; returns their seconds."""
        started = time.perf_counter()
        for _ in range(count):
            self._state, sums = self._step(self._state, next(self._batches))
        jax.block_until_ready(sums)
        return time.perf_counter() - started


def synthetic(config: Any) -> dict[str, Any]:
    """Returns a batch of random pixels."""
    side = config.image_size + config.crop_margin
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (config.batch_size, side, side, 3), np.uint8),
        "label": np.zeros(config.batch_size, np.int32),
        "mask": np.ones(config.batch_size, np.float32),
    }


def print_table(argv: Sequence[str]) -> None:
    """Measures the config of a `train` command line without --workdir."""
    config, devices = parse_args([*argv, "--workdir=unused"]).config, jax.devices()
    print(f"{config.model}, {config.image_size} px, batch {config.batch_size}, {config.dtype}, on {devices[0]}\n")
    print("| cache | images/s with data | of the step alone | range over the rounds |")
    print("|---|---:|---:|---:|")
    for cache in CACHES:
        config.data.cache = cache
        components = make_components(config, devices)
        data = endless(TrainBatches(components, streamed=None), components.steps_per_epoch)
        (batch,) = on_devices([synthetic(config)], devices)
        alone, with_data = Steps(components, itertools.repeat(batch)), Steps(components, data)
        with_data.seconds(components.steps_per_epoch)
        count = max(round(SECONDS_PER_ROUND / alone.seconds(3) * 3), 1)
        rounds = [(alone.seconds(count), with_data.seconds(count)) for _ in range(ROUNDS)]
        parts = [first / second for first, second in rounds]
        rate = config.batch_size * count / statistics.median(second for _, second in rounds)
        spread = f"{100 * min(parts):.1f} to {100 * max(parts):.1f} %"
        print(f"| {cache} | {rate:,.1f} | {100 * statistics.median(parts):.1f} % | {spread} |", flush=True)


if __name__ == "__main__":
    print_table(sys.argv[1:])
