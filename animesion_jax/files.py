"""Paths that users give; locks; atomic writes of local files and of files on gs://; JSON files, in UTF-8."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

from animesion_jax.errors import InputError, encodable, first_line

AnyPath = TypeVar("AnyPath", Path, epath.Path)

log = logging.getLogger(__name__)


def expand_home(path: str | os.PathLike) -> str:
    """Returns a path that a user gave with `~` and `~NAME` at its start replaced by the home folder.

    Raises:
      InputError: the home folder is unknown, as in a container whose user has no entry in /etc/passwd.
    """
    path = os.fspath(path)
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded.startswith("~") and not os.path.lexists(path):
        user = path.partition("/")[0]
        fix = "set HOME" if user == "~" else f"write ./{path} for a file of that name"
        raise InputError(f"{path}: the home folder of '{user}' is unknown; {fix}, or give a path without '~'")
    return expanded


def local_path(path: str | os.PathLike) -> Path:
    """Returns the local path of an output, with the home folder as in `expand_home`; InputError for an address."""
    if "://" in os.fspath(path):
        raise InputError(f"{path} is not a local path; write a local file or folder, then copy it there")
    return Path(expand_home(path))


def expand_utf8(path: str | os.PathLike) -> str:
    """Like `expand_home`, for folders that TensorFlow or TensorStore use: they encode all names in UTF-8.

    Raises:
      InputError: the path has undecodable bytes, or the locale encodes its letters in another way.
    """
    expanded = expand_home(path)
    local = "" if "://" in expanded else os.path.abspath(expanded)
    if local.encode(errors="replace") != os.fsencode(local):
        raise InputError(
            f"the path {local} is not valid UTF-8 on disk (the locale's encoding is {sys.getfilesystemencoding()}), "
            "which TensorFlow and TensorStore need; give a path of ASCII letters"
        )
    return expanded


def size(path: epath.Path) -> int:
    """Returns the size of a file in bytes; `epath.Path.stat` fails if the file's owner has no name."""
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        return stream.tell()


@contextlib.contextmanager
def locked(path: str | os.PathLike, message: str) -> Iterator[None]:
    """Holds an exclusive lock on an existing file or folder; a kill releases it too.

    The lock works between the processes of a machine, and on most network file systems between machines. On gs:// and
    on file systems without locks, nothing is locked.

    Args:
      path: local or gs://.
      message: text of the InputError.

    Raises:
      InputError: another process, or this one, holds the lock.
    """
    if "://" in os.fspath(path):
        yield
        return
    while True:
        # NFS locks only files that are open for writing.
        is_writable = os.path.isfile(path) and os.access(path, os.W_OK)
        descriptor = os.open(path, os.O_RDWR if is_writable else os.O_RDONLY)
        try:
            _lock(descriptor, path, message)
            # An atomic write may have replaced the file between open and lock.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                yield
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: str | os.PathLike, message: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise InputError(message) from error
        log.warning("%s cannot be locked (%s); do not use it from two processes at once", path, error.strerror)


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[AnyPath]:
    """Yields the path of a temporary file, which replaces `path` at the end; an error removes it instead.

    Args:
      path: file to write, new or existing, in an existing folder; local or gs://.
    """
    fresh = _temporary(path)
    try:
        yield fresh
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Like `replacing`, but raises FileExistsError if `path` exists at the end of the block."""
    fresh = _temporary(path)
    try:
        yield fresh
        try:
            os.link(fresh, path)
        except FileExistsError:
            raise
        except OSError:  # not every file system has hard links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _temporary(path: AnyPath) -> AnyPath:
    # The name is unique, because two processes may write the same file. It is short, because names have a limit.
    return path.parent / f".{uuid.uuid4().hex}.tmp"


def read_json(path: epath.Path, kind: type = dict) -> Any:
    """Returns the content of a JSON file; InputError if it is damaged or not of the type `kind`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
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
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        # Write undecodable bytes of file names as JSON's escapes.
        fresh.write_text(encodable(text), encoding="utf-8")


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


def check_output(output: str, example: str = "model.msgpack") -> epath.Path:
    """Returns the path of a file to write; InputError, which suggests `example`, for a folder or an hf:// address."""
    if output.startswith(("hf://", "https://", "http://")):
        raise InputError(f"--output={output} cannot be written to; allowed: a local file or gs://, such as {example}")
    path = epath.Path(expand_home(output))
    if path.is_dir():
        raise InputError(f"--output={output} is a folder; allowed: a file, such as {path / example}")
    return path
