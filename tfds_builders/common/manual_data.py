"""Checks on text files in a manual folder: that they exist, their lines, and the paths in them."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from animesion_jax.errors import InputError, shorten

# Longest excerpt of a line in an error message; a file of another kind may have very long lines.
MAX_EXCERPT = 200
# Longest line, with its end. The longest line of the released files has about 200 characters.
MAX_CHARACTERS = 2**14


def require(folder: Path, names: Iterable[str], where_from: str) -> None:
    """Raises InputError if files are missing in a folder; `where_from` says where to get them."""
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}; {where_from}")


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields ("FILE line N", line) for the lines of a UTF-8 text file; drops blank lines and a byte order mark.

    Raises:
      InputError: a line is not UTF-8 or longer than 16,383 characters; names file, line and content.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_CHARACTERS), ""), start=1):
            where = f"{path} line {number}"
            try:
                line.encode()
            except UnicodeEncodeError:
                content = line.rstrip("\r\n").encode(errors="surrogateescape")[:MAX_EXCERPT]
                raise InputError(f"{where}: {content!r}: not UTF-8; save the file as UTF-8") from None
            if len(line) == MAX_CHARACTERS and not line.endswith("\n"):
                raise InputError(f"{where}: {excerpt(line)}: over {MAX_CHARACTERS - 1} characters; give a text file")
            if line.strip():
                yield where, line.rstrip("\r\n")


@contextlib.contextmanager
def naming(where: str, line: str) -> Iterator[None]:
    """Turns a ValueError raised in the block into an InputError that begins with file, line and content."""
    try:
        yield
    except ValueError as error:
        raise InputError(f"{where}: {excerpt(line)}: {error}") from None


def excerpt(text: str) -> str:
    """Returns a text as Python writes it, shortened to `MAX_EXCERPT` characters."""
    return shorten(repr(text), MAX_EXCERPT)


def is_id(text: str) -> bool:
    """Returns whether a text is a class or tag id: 1 to 18 ASCII digits; `int` accepts more."""
    return re.fullmatch("[0-9]{1,18}", text) is not None


def relative_path(text: str) -> str:
    """Returns a path below the manual folder, with forward slashes.

    Raises:
      ValueError: the path is absolute, or has a drive letter, an empty or `..` component, or a NUL byte.
    """
    path = text.strip().replace("\\", "/")
    parts = path.split("/")
    if "\0" in path or re.match(r"[A-Za-z]:", path) or any(part in ("", ".", "..") for part in parts):
        raise ValueError("the path leaves the folder or is malformed; expected one like 0291/1796291.jpg")
    return path


def note_image(seen: dict[str, str], path: str, where: str) -> None:
    """Adds an image to `seen`, which maps images to the line that lists them.

    Raises:
      ValueError: the image is listed already; `7/1.jpg` and `0007/1.jpg` are the same image.
    """
    parent, _, name = path.rpartition("/")
    image = f"{int(parent)}/{name}" if is_id(parent) else path
    if image in seen:
        raise ValueError(f"the image is listed twice, before in {seen[image]}; remove one of the lines")
    seen[image] = where


def check_distinct(path: Path, names: Iterable[str]) -> None:
    """Raises InputError if two classes share a name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}: the class name {excerpt(name)} stands for two classes; names must differ")
        seen.add(name)
