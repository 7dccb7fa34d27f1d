"""What training has measured since its last row, and whether it is still finite."""

import collections
import math
import time

import jax

from animesion_jax import metrics
from animesion_jax.training.state import Sums

# Steps whose sums are left on the device, so that it never waits for the host to look at them.
STEPS_UNREAD = 2


class NonFinite(Exception):
    """A loss, a gradient or an update is not finite.

    Attributes:
      step: number of the update, from 1.
      loss: mean loss of its batch before the update.
      numbers: how many numbers of the gradient, the updated parameters and the batch statistics are not finite.
    """

    def __init__(self, step: int, loss: float, numbers: int):
        super().__init__(f"loss {loss:g}, {numbers} numbers of gradient and update not finite at step {step}")
        self.step, self.loss, self.numbers = step, loss, numbers


class Window:
    """Metric sums since the last row of the journal."""

    def __init__(self, totals: dict[str, float] | None = None):
        """Goes on with the totals of an interrupted run, or from nothing."""
        self._unread: collections.deque[tuple[int, Sums]] = collections.deque()
        self._begin(totals or dict.fromkeys((*metrics.SUMS, "examples"), 0.0))

    def _begin(self, totals: dict[str, float]) -> None:
        self._totals = totals
        self._start = time.monotonic()
        self._examples_before = totals["examples"]

    def add(self, step: int, sums: Sums) -> None:
        """Adds the sums of the update number `step`; raises NonFinite for it or one shortly before."""
        self._unread.append((step, sums))
        self._settle(STEPS_UNREAD)

    def totals(self) -> dict[str, float]:
        """Returns the sums; raises NonFinite for one of the last updates."""
        self._settle(0)
        return dict(self._totals)

    def read(self) -> dict[str, float]:
        """Returns the means since the last call, with images_per_second, and starts anew; raises NonFinite."""
        totals = self.totals()
        rate = (totals["examples"] - self._examples_before) / (time.monotonic() - self._start)
        self._begin(dict.fromkeys(totals, 0.0))
        return metrics.finalize(totals) | {"images_per_second": rate}

    def pause(self, seconds: float) -> None:
        """Leaves `seconds` (of evaluating, of saving) out of the rate."""
        self._start += seconds

    def _settle(self, unread: int) -> None:
        while len(self._unread) > unread:
            step, sums = self._unread.popleft()
            sums = jax.device_get(sums)
            if sums["nonfinite"] or not math.isfinite(sums["loss"]):
                raise NonFinite(step, float(sums["loss"] / sums["examples"]), int(sums["nonfinite"]))
            for name in self._totals:
                self._totals[name] += float(sums[name])
