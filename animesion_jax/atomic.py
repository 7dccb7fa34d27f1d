"""Files that appear whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from etils import epath

AnyPath = TypeVar("AnyPath", Path, epath.Path)


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[AnyPath]:
    """Yields a path to write to, beside `path`, which it replaces at the end; an error removes it instead.

    Args:
      path: a file, there or not, in a folder that is there; local or gs://.
    """
    fresh = path.parent / f".{path.name}.tmp"
    try:
        yield fresh
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
