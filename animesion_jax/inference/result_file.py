"""A CSV or JSON lines file of rows; a second start adds the missing images."""

import contextlib
import csv
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from animesion_jax.errors import InputError, encodable, first_line
from animesion_jax.files import local_path, locked
from animesion_jax.inference.rows import Row
from animesion_jax.inference.writers import (
    CSV_HEADER,
    PICTURES_CSV_HEADER,
    Writer,
    csv_line,
    write_csv_rows,
    write_jsonl,
    write_pictures_csv_rows,
)

log = logging.getLogger("animesion_jax")


@dataclass(frozen=True)
class Content:
    """A kind of rows.

    Attributes:
      command: that writes them.
      kind: in words, for messages.
      formats: writers of rows by the ending of the file.
      header: of the CSV.
    """

    command: str
    kind: str
    formats: dict[str, Writer]
    header: Sequence[str] = ()


IMAGES = Content("predict", "predictions of images", {".csv": write_csv_rows, ".jsonl": write_jsonl}, CSV_HEADER)
PICTURES = Content(
    "predict", "predictions of whole pictures", {".csv": write_pictures_csv_rows, ".jsonl": write_jsonl},
    PICTURES_CSV_HEADER,
)  # fmt: skip
BOXES = Content("find", "heads", {".jsonl": write_jsonl})


@contextlib.contextmanager
def open_result_file(output: str, content: Content = IMAGES) -> Iterator["ResultFile"]:
    """Opens a local file of rows, new or existing, and locks it during the block.

    Raises:
      InputError: the ending of the file is not one of the content's, or another process has opened it.
    """
    path = local_path(output)
    if path.suffix.lower() not in content.formats or (path.exists() and not path.is_file()):
        endings = " or ".join(f"*{name}" for name in content.formats)
        raise InputError(f"--output={output}: allowed: a file named {endings}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("ab").close()
    message = f"another {content.command} is writing --output={output}; wait until it ends, or give another file"
    with locked(path, message):
        try:
            yield ResultFile(output, path, content)
        finally:
            if not path.stat().st_size:
                path.unlink()


class ResultFile:
    """A file of rows. Each row is on disk as soon as it is written."""

    def __init__(self, output: str, path: Path, content: Content):
        self._output, self._path, self._content = output, path, content
        self._suffix = path.suffix.lower()

    def missing(self, files: Sequence[Path], names: Sequence[str] = (), top_k: int = 0) -> list[Path]:
        """Returns the images without a row in the file, each once; cuts off an incomplete last row.

        Compares absolute paths, since the file may have paths relative to the current folder.

        Args:
          files: images to predict.
          names: characters of the bundle, by class id; empty for boxes.
          top_k: characters per image or head, if the bundle has as many.

        Raises:
          InputError: the file does not hold such rows, or those of another bundle or `top_k`.
        """
        by_key = {_key(str(file)): file for file in files}
        ranks, content = min(top_k, len(names)), self._content
        header = csv_line(content.header).encode()
        with self._path.open("r+b") as stream:
            try:
                if self._suffix == ".csv":
                    done, size = _read_csv(stream, content, set(by_key), names, ranks)
                else:
                    done, size = _read_jsonl(stream, content, names, ranks)
            except InputError as error:
                raise InputError(f"--output={self._output} has {error}; give another file") from error
            except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
                raise InputError(
                    f"--output={self._output} does not hold {content.kind} ({first_line(error)}); allowed: a new name, "
                    f"or a file that {content.command} wrote with the same flags"
                ) from error
            stream.seek(size)
            stream.truncate()
            if self._suffix == ".csv" and not size:
                stream.write(header)
        return [file for key, file in by_key.items() if key not in done]

    def write(self, rows: Iterable[Row]) -> None:
        """Appends rows; logs after Ctrl+C that the file keeps those written."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            try:
                self._content.formats[self._suffix](rows, stream)
            except KeyboardInterrupt:
                log.info("%s has the rows written so far; run the same command again to add the others", self._output)
                raise


def _key(path: str) -> str:
    return os.path.abspath(encodable(path))


def _read_jsonl(stream: BinaryIO, content: Content, names: Sequence[str], ranks: int) -> tuple[set[str], int]:
    """Returns the images of the complete lines, and the length of these lines in bytes."""
    _check_start(stream, b'{"path": ')
    done, size = set(), 0
    for line in _whole_rows(stream, quotes=False):
        row = json.loads(line)
        if "error" not in row:
            _check_row(row, content, names, ranks)
        done.add(_key(row["path"]))
        size += len(line)
    return done, size


def _check_row(row: Row, content: Content, names: Sequence[str], ranks: int) -> None:
    found = _content_of(row)
    # A picture without a head is the same in both files of pictures.
    if found is not content and (row.get("faces") != [] or content is IMAGES):
        raise InputError(f"{found.kind}, not {content.kind}")
    for head in row.get("faces", [row]) if content is not BOXES else ():
        _check_number(len(head["predictions"]), ranks)
        for each in head["predictions"]:
            _check_name(each["class"], each["class_id"], names)


def _content_of(row: Row) -> Content:
    if "faces" not in row:
        return IMAGES
    return BOXES if all("predictions" not in face for face in row["faces"]) else PICTURES


def _read_csv(
    stream: BinaryIO, content: Content, expected: set[str], names: Sequence[str], ranks: int
) -> tuple[set[str], int]:
    """Returns the images of the complete rows, and the length of these rows in bytes.

    An image has `ranks` rows, a whole picture as many for each head, or one without a head; a file with an error has
    one. If the last image is `expected` and has fewer, its rows do not count.
    """
    _check_start(stream, csv_line(content.header).encode())
    rows = _whole_rows(stream, quotes=True)
    size = start = len(next(rows, b""))
    done: set[str] = set()
    last, count, needed = None, 0, 0
    for line in rows:
        (values,) = csv.reader([line.decode()])
        row = dict(zip(content.header, values, strict=True))
        if row["path"] != last:
            _check_number_of_rows(count, needed, ranks)
            last, count, start = row["path"], 0, size
            heads = int(row.get("faces") or not row["error"])
            needed = heads * ranks or 1
        if row["class_id"]:
            _check_name(row["class"], int(row["class_id"]), names)
        count += 1
        size += len(line)
        done.add(_key(last))
    if last is not None and count < needed and _key(last) in expected:
        return done - {_key(last)}, start
    _check_number_of_rows(count, needed, ranks)
    return done, size


def _check_number_of_rows(count: int, needed: int, ranks: int) -> None:
    """Raises InputError unless the last image has as many rows as it needs."""
    if count != needed:
        # Each of needed / ranks heads has the same number of rows.
        _check_number(count * ranks // needed, ranks)
        raise ValueError(f"an image has {count} rows instead of {needed}")


def _check_number(count: int, ranks: int) -> None:
    if count != ranks:
        raise InputError(f"{count} characters per image, and --top_k asks for {ranks}")


def _check_name(name: str, class_id: int, names: Sequence[str]) -> None:
    if not 0 <= class_id < len(names) or encodable(names[class_id]) != encodable(name):
        raise InputError(f"predictions of another bundle (class {class_id} is {name})")


def _check_start(stream: BinaryIO, start: bytes) -> None:
    """Raises ValueError unless the file starts with `start`, or is the beginning of `start`."""
    head = stream.read(len(start))
    stream.seek(0)
    if not start.startswith(head):
        raise ValueError(f"it starts with {head!r}")


def _whole_rows(stream: BinaryIO, quotes: bool) -> Iterator[bytes]:
    r"""Yields the rows that end in "\n"; with `quotes`, a "\n" between quotes is part of the row."""
    lines: list[bytes] = []
    inside = False
    for line in stream:
        lines.append(line)
        inside ^= quotes and line.count(b'"') % 2 == 1
        if line.endswith(b"\n") and not inside:
            yield b"".join(lines)
            lines = []
