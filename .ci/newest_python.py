"""Prints the path of the newest supported Python if it is newer than this one: `python .ci/newest_python.py`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from check_install import supported

# venv needs ensurepip, which some distributions leave out.
PROBE = "import ensurepip, sys; print(sys.version_info.minor)"


def candidates(minor: int) -> Iterator[Path]:
    """Yields paths at which Python 3.`minor` may be: on the PATH, then among pyenv's versions."""
    for folder in os.get_exec_path():
        yield Path(folder, f"python3.{minor}")
    # What `pyenv root` prints.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(root.glob(f"versions/3.{minor}.*/bin/python"), reverse=True)


def runs(python: Path, minor: int) -> bool:
    """Returns whether a path is Python 3.`minor` with venv; pyenv's shims exist for versions that it does not run."""
    try:
        probe = subprocess.run([python, "-c", PROBE], capture_output=True, encoding="utf-8", check=False)
    except OSError:
        return False
    return probe.stdout.strip() == str(minor)


def main() -> str | None:
    """Prints the path, or returns a message that says why none is found."""
    this, newest = sys.version_info.minor, supported()[1]
    if this >= newest:
        return f"Python 3.{this} is the newest that setup.py allows: `make test` already uses it."
    for minor in range(newest, this, -1):
        for python in candidates(minor):
            if runs(python, minor):
                print(python)
                return None
    return (
        f"NOT TESTED with the newest releases: no Python of 3.{this + 1} to 3.{newest} is on the PATH or among pyenv's "
        "versions; install one, or name it: make NEWEST_PYTHON=/path/to/python test-newest"
    )


if __name__ == "__main__":
    sys.exit(main())
