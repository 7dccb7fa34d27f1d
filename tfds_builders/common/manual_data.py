"""Checks on what a user puts into a data set's manual folder: its files, their lines and the paths in them."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# Of a line, an error shows as many characters: a file that is no label file may have lines without end.
SHOWN = 200
# Of a line so many are read; the longest of the released files has about 200.
MAX_CHARACTERS = 2**14


def require(folder: Path, names: Iterable[str], where_from: str) -> None:
    """Raises FileNotFoundError naming what is missing in the manual folder and where to get it."""
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; {where_from}")


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields ("FILE line N", line) of the lines of a UTF-8 text file that are not blank; a BOM is dropped.

    Raises:
      ValueError: a line is not UTF-8 or longer than 16,383 characters, with file, line and content.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_CHARACTERS), ""), start=1):
            where = f"{path} line {number}"
            try:
                line.encode()
            except UnicodeEncodeError:
                content = line.rstrip("\r\n").encode(errors="surrogateescape")[:SHOWN]
                raise ValueError(f"{where}: {content!r}: not UTF-8; save the file as UTF-8") from None
            if len(line) == MAX_CHARACTERS and not line.endswith("\n"):
                raise ValueError(f"{where}: {line[:SHOWN]!r}: over {MAX_CHARACTERS - 1} characters; is it text?")
            if line.strip():
                yield where, line.rstrip("\r\n")


@contextlib.contextmanager
def naming(where: str, line: str) -> Iterator[None]:
    """Puts file, line and content before the message of a ValueError raised within."""
    try:
        yield
    except ValueError as error:
        shown = line if len(line) <= SHOWN else f"{line[:SHOWN]}..."
        raise ValueError(f"{where}: {shown!r}: {error}") from None


def is_id(text: str) -> bool:
    """Returns whether a text is a class or tag id: digits 0 to 9, at most 18 of them; `int` takes others too."""
    return re.fullmatch("[0-9]{1,18}", text) is not None


def relative_path(text: str) -> str:
    """Returns a path below the manual folder with forward slashes.

    Raises:
      ValueError: the path is absolute, has a drive letter, an empty or a `..` component, or a NUL.
    """
    path = text.strip().replace("\\", "/")
    parts = path.split("/")
    if "\0" in path or re.match(r"[A-Za-z]:", path) or any(part in ("", ".", "..") for part in parts):
        raise ValueError("the path leaves the folder or is malformed; expected one like 0291/1796291.jpg")
    return path


def note_image(seen: dict[str, str], path: str, where: str) -> None:
    """Adds an image to `seen`, which says where each one is listed; folders count as numbers.

    Raises:
      ValueError: the image is listed already; `7/1.jpg` and `0007/1.jpg` are the same image.
    """
    parent, _, name = path.rpartition("/")
    image = f"{int(parent)}/{name}" if is_id(parent) else path
    if image in seen:
        raise ValueError(f"the image is listed twice, before in {seen[image]}; leave one of the lines out")
    seen[image] = where


def check_distinct(path: Path, names: Iterable[str]) -> None:
    """Raises ValueError naming the first class name that two classes share."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path}: the class name {name!r} stands for two classes; names must differ")
        seen.add(name)
