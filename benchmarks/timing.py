"""Times a step that runs asynchronously on a device."""

import statistics
import time
from collections.abc import Callable
from typing import Any

# Time several steps at once, so that the host's own work does not count.
SECONDS_PER_READING = 1.0
UNCOUNTED_STEPS = 3


def timed(step: Callable[[], Any], wait: Callable[[Any], Any], readings: int) -> float:
    """Returns the median seconds of a step.

    Args:
      step: dispatches one step and returns its outputs.
      wait: blocks until the outputs of a step are ready.
      readings: number of timings; the median of them is returned.
    """
    for _ in range(UNCOUNTED_STEPS):
        done = step()
    wait(done)
    started = time.perf_counter()
    wait(step())
    count = max(round(SECONDS_PER_READING / (time.perf_counter() - started)), 1)
    seconds = []
    for _ in range(readings):
        started = time.perf_counter()
        for _ in range(count):
            done = step()
        wait(done)
        seconds.append((time.perf_counter() - started) / count)
    return statistics.median(seconds)
