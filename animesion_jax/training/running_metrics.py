"""Metrics of training since its last row of metrics.jsonl; they must be finite."""

import collections
import contextlib
import math
import time
from collections.abc import Iterator

import jax

from animesion_jax import metrics
from animesion_jax.training.nonfinite import NonFinite
from animesion_jax.training.state import Sums

# Steps whose sums stay on the device, so that it never waits for the host to read them.
STEPS_UNREAD = 2


class RunningMetrics:
    """Metric sums since the last row."""

    def __init__(self, totals: dict[str, float] | None = None):
        """Starts from the totals of an interrupted run, or from zero."""
        self._unread: collections.deque[tuple[int, Sums]] = collections.deque()
        self._begin(totals or dict.fromkeys((*metrics.SUMS, "examples"), 0.0))

    def _begin(self, totals: dict[str, float]) -> None:
        self._totals = totals
        self._start = time.monotonic()
        self._examples_before = totals["examples"]

    def add(self, step: int, sums: Sums) -> None:
        """Adds the sums of update number `step`; raises NonFinite for it or an update shortly before."""
        self._unread.append((step, sums))
        self._settle(STEPS_UNREAD)

    def totals(self) -> dict[str, float]:
        """Returns the sums; raises NonFinite for one of the last updates."""
        self._settle(0)
        return dict(self._totals)

    def read(self) -> dict[str, float]:
        """Returns the means since the last call, with images_per_second, and resets the sums; raises NonFinite."""
        totals = self.totals()
        rate = (totals["examples"] - self._examples_before) / (time.monotonic() - self._start)
        self._begin(dict.fromkeys(totals, 0.0))
        return metrics.finalize(totals) | {"images_per_second": rate}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of the block, of saving and evaluating, out of images_per_second."""
        started = time.monotonic()
        yield
        self._start += time.monotonic() - started

    def _settle(self, unread: int) -> None:
        while len(self._unread) > unread:
            step, sums = self._unread.popleft()
            sums = jax.device_get(sums)
            if sums["nonfinite"] or not math.isfinite(sums["loss"]):
                raise NonFinite(step, float(sums["loss"] / sums["examples"]), int(sums["nonfinite"]))
            for name in self._totals:
                self._totals[name] += float(sums[name])
