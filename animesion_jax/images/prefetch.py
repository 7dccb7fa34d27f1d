"""Applies a function to files in threads, a bounded number ahead of the caller."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def prefetch(function: Callable[[Path], Result], files: Sequence[Path], ahead: int) -> Iterator[tuple[Path, Result]]:
    """Yields each file in order with the function's result; threads compute the next ones meanwhile.

    Args:
      function: is called in threads, one per core.
      files: its arguments.
      ahead: most results that wait in memory, 1 or more.
    """
    waiting: deque[tuple[Path, Future]] = deque()
    left = iter(files)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        try:
            waiting.extend((file, pool.submit(function, file)) for file in islice(left, ahead))
            while waiting:
                file, future = waiting.popleft()
                yield file, future.result()
                waiting.extend((file, pool.submit(function, file)) for file in islice(left, 1))
        finally:
            # A caller that stops early does not wait for the files left.
            pool.shutdown(wait=False, cancel_futures=True)
