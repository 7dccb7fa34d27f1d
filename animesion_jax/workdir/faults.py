"""Errors about the files of a workdir, classified by type and, where types overlap, by tensorstore's status word."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from animesion_jax.errors import InputError, first_line

# Status words with which tensorstore reports missing or unreadable bytes. With others, such as UNAVAILABLE or
# PERMISSION_DENIED, the checkpoint may be whole.
DAMAGE = re.compile(r"\b(NOT_FOUND|DATA_LOSS|OUT_OF_RANGE|FAILED_PRECONDITION|INVALID_ARGUMENT): ")
# How tensorstore passes on an error of the file system.
OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")
MAX_REASON = 200  # characters


class Damaged(Exception):
    """A checkpoint cannot be read."""


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turns errors about missing or unreadable bytes into `Damaged`; raises every other error unchanged."""
    try:
        yield
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Damaged(first_line(error)[:MAX_REASON]) from error
    except InputError:
        raise
    except Exception as error:
        # Orbax wraps tensorstore's ValueError in a bare Exception.
        found = DAMAGE.search(f"{error} {error.__cause__ or error.__context__}")
        if not found:
            raise
        raise Damaged(first_line(error)[:MAX_REASON]) from error


@contextlib.contextmanager
def writing(workdir: str) -> Iterator[None]:
    """Turns an error of the file system in the block into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--workdir={workdir} cannot be written to ({error.strerror or error}); allowed: a folder that you may "
            "write in: fix its permissions or give another one"
        ) from error


def os_error(error: BaseException) -> str | None:
    """Returns the file system's message behind a failed save; None if the error is of another kind."""
    if isinstance(error, OSError):
        return error.strerror
    found = OS_ERROR.search(str(error))
    return os.strerror(int(found.group(1))) if found else None


def check_shapes(item: epath.Path, like: Any) -> None:
    """Raises InputError if an item's arrays differ in names or shapes from those of `like`.

    Other shapes mean another model, not damage.

    Args:
      item: folder of one item of a checkpoint; metadata of other items is not read.
      like: a tree of arrays, abstract or not.
    """
    try:
        tree = ocp.StandardCheckpointHandler().metadata(item).tree
    except (AttributeError, KeyError, TypeError) as error:
        raise Damaged("_METADATA is malformed") from error
    saved, wanted = _shapes(tree), _shapes(ocp.tree.serialize_tree(like, keep_empty_nodes=True))
    for name in sorted(saved | wanted):
        if saved.get(name) != wanted.get(name):
            raise InputError(
                f"{item} is of another model or optimizer: {name} is {saved.get(name, 'absent')} there, "
                f"{wanted.get(name, 'absent')} by the config; allowed: the model and the trainable part it was saved "
                "with, or another --workdir"
            )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a tree's arrays by path; Orbax describes an empty dict by a leaf without a shape."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if getattr(leaf, "shape", None) is not None
    }
