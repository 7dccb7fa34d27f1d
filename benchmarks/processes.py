"""Runs each measurement in its own process; several run at once, but each is timed alone."""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# Names the file that processes lock while they use the device; unset if one process runs at a time.
LOCK = "BENCHMARK_LOCK"
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory")


def measure(script: str, case: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
    """Runs `script --one CASE` in a new process; returns the JSON of its last line, or {"error": the reason}.

    Args:
      script: path of a Python file.
      case: what to measure.
      timeout: seconds until the process is killed; None for never.
    """
    command = [sys.executable, script, "--one", json.dumps(case)]
    # Without preallocation, the peak is the step's own, and processes share the memory.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    # Files instead of pipes: the workers of torch.compile would keep a pipe open after the process was killed.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            done = subprocess.run(command, env=environment, stdout=stdout, stderr=stderr, timeout=timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"stopped after {timeout:.0f} s"}
        lines, messages = (_read(file).strip().splitlines() for file in (stdout, stderr))
    if done.returncode == 0:
        return json.loads(lines[-1])
    if done.returncode == -9 or any(word in line for line in messages for word in OUT_OF_MEMORY):
        return {"error": "out of memory"}
    return {"error": (messages or [f"exit status {done.returncode}"])[-1][:60]}


def _read(file: Any) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


@contextlib.contextmanager
def device_shared() -> Iterator[None]:
    """Holds the device together with other processes, while none is timed."""
    with _locked(fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def device_alone() -> Iterator[None]:
    """Holds the device alone, to be timed."""
    with _locked(fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _locked(operation: int) -> Iterator[None]:
    if LOCK not in os.environ:
        yield
        return
    with open(os.environ[LOCK], encoding="utf-8") as file:
        fcntl.flock(file, operation)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing it is not enough if a forked process has it, too
