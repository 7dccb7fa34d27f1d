"""Fails where the Makefile cannot install: `python .ci/check_install.py`."""

import os
import re
import sys
from pathlib import Path

SETUP = Path(__file__).parent.parent / "setup.py"
# venv refuses ":"; its activate scripts or setuptools interpret the next five; checkpoints do not support the others.
REFUSED = ':$`"{}*?[\\'


def fault(version: tuple[int, ...], folder: str) -> str:
    """Returns what prevents an installation with a version of Python below a folder; "" for nothing."""
    lowest, above = re.search(r'python_requires=">=3\.(\d+),<3\.(\d+)"', SETUP.read_text(encoding="utf-8")).groups()
    if not (3, int(lowest)) <= version[:2] < (3, int(above)):
        return (
            f"animesion_jax needs Python 3.{lowest} to 3.{int(above) - 1}, this is {version[0]}.{version[1]}; name "
            f"another: make PYTHON=python3.{lowest} ..."
        )
    if wrong := sorted({letter for letter in folder if letter in REFUSED or not letter.isprintable()}):
        return (
            f"animesion_jax does not work below a path with {' '.join(map(repr, wrong))}; move the clone out of "
            f"{folder!r}"
        )
    return ""


if __name__ == "__main__":
    sys.exit(fault(sys.version_info, os.getcwd()) or 0)
