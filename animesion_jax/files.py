"""Atomic writes of local files and of files on gs://; JSON files."""

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

from animesion_jax.errors import InputError, first_line

AnyPath = TypeVar("AnyPath", Path, epath.Path)


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[AnyPath]:
    """Yields the path of a temporary file, which replaces `path` at the end; an error removes it instead.

    Args:
      path: file to write, new or existing, in an existing folder; local or gs://.
    """
    # The name is unique, because two processes may write the same file. It is short, because names have a limit.
    fresh = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        yield fresh
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def read_json(path: epath.Path, kind: type = dict) -> Any:
    """Returns the content of a JSON file; InputError if it is damaged or not of the type `kind`."""
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, kind):
            raise ValueError(f"it holds no {kind.__name__}")
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({first_line(error)}); restore it or train into another workdir"
        ) from error
    return value


def write_json(path: epath.Path, value: Any) -> None:
    """Writes a file of indented JSON atomically."""
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_whole(output: str, parts: Iterable[bytes]) -> epath.Path:
    """Writes a file atomically, creates its folder if missing, and returns the file's path.

    Raises:
      InputError: `output` is a folder.
    """
    path = check_output(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh, fresh.open("wb") as stream:
        for part in parts:
            stream.write(part)
    return path


def check_output(output: str) -> epath.Path:
    """Returns the path of a file to write; InputError if it is a folder."""
    path = epath.Path(output).expanduser()
    if path.is_dir():
        raise InputError(f"--output={output} is a folder; allowed: a file, such as {path / 'model.msgpack'}")
    return path
