"""Checks that the Makefile can install here: `python .ci/check_install.py`."""

import os
import re
import sys
from pathlib import Path

SETUP = Path(__file__).parent.parent / "setup.py"
# Characters that the path must not have: venv refuses ":", its activate scripts or setuptools expand the next five, and
# checkpoints do not support the others.
REFUSED = ':$`"{}*?[\\'


def supported() -> tuple[int, int]:
    """Returns the lowest and the newest minor version of Python 3 that setup.py allows."""
    lowest, above = re.search(r'python_requires=">=3\.(\d+),<3\.(\d+)"', SETUP.read_text(encoding="utf-8")).groups()
    return int(lowest), int(above) - 1


def fault(version: tuple[int, ...], folder: str) -> str:
    """Returns the error message for a Python version and a folder; "" if both are supported."""
    lowest, newest = supported()
    if not (3, lowest) <= version[:2] <= (3, newest):
        return (
            f"Python {version[0]}.{version[1]} is not supported; allowed: 3.{lowest} to 3.{newest}; choose one: make "
            f"PYTHON=python3.{lowest} ..."
        )
    if wrong := sorted({letter for letter in folder if letter in REFUSED or not letter.isprintable()}):
        return (
            f"the path {folder!r} has {' '.join(map(repr, wrong))}, which is not supported; move the clone to a path "
            "without it"
        )
    return ""


if __name__ == "__main__":
    sys.exit(fault(sys.version_info, os.getcwd()) or 0)
