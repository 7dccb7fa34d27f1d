"""A CSV or JSON lines file of predictions; a second start adds the missing images."""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from animesion_jax.errors import InputError, encodable, first_line
from animesion_jax.files import expand_home, locked
from animesion_jax.inference.writers import CSV_HEADER, Row, Writer, csv_line, write_csv_rows, write_jsonl

FORMATS: dict[str, Writer] = {".csv": write_csv_rows, ".jsonl": write_jsonl}
HEADER = csv_line(CSV_HEADER).encode()


@contextlib.contextmanager
def open_result_file(output: str) -> Iterator["ResultFile"]:
    """Opens a local file of predictions, new or existing, and locks it during the block.

    Raises:
      InputError: not a file named *.csv or *.jsonl, or another process has opened it.
    """
    path = Path(expand_home(output))
    if path.suffix.lower() not in FORMATS or (path.exists() and not path.is_file()):
        raise InputError(f"--output={output}: allowed: a file named {' or '.join(f'*{name}' for name in FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("ab").close()
    message = f"another predict is writing --output={output}; wait until it ends, or give another file"
    with locked(path, message):
        try:
            yield ResultFile(output, path)
        finally:
            if not path.stat().st_size:
                path.unlink()


class ResultFile:
    """A file of predictions. Each row is on disk as soon as it is written."""

    def __init__(self, output: str, path: Path):
        self._output, self._path = output, path
        self._suffix = path.suffix.lower()

    def missing(self, files: Sequence[Path], ranks: int) -> list[Path]:
        """Returns the images without a row in the file, each once; cuts off an incomplete last row.

        Compares absolute paths, since the file may have paths relative to the current folder.

        Args:
          files: images to predict.
          ranks: rows of an image in CSV.

        Raises:
          InputError: the file does not hold predictions.
        """
        by_key = {_key(str(file)): file for file in files}
        with self._path.open("r+b") as stream:
            try:
                done, size = _read_csv(stream, set(by_key), ranks) if self._suffix == ".csv" else _read_jsonl(stream)
            except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
                raise InputError(
                    f"--output={self._output} does not hold predictions ({first_line(error)}); allowed: a new name, or "
                    "a file that predict wrote"
                ) from error
            stream.seek(size)
            stream.truncate()
            if self._suffix == ".csv" and not size:
                stream.write(HEADER)
        return [file for key, file in by_key.items() if key not in done]

    def write(self, rows: Iterable[Row], files: Sequence[Path]) -> None:
        """Appends the rows of `files`."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            FORMATS[self._suffix](rows, stream, files)


def _key(path: str) -> str:
    return os.path.abspath(encodable(path))


def _read_jsonl(stream: BinaryIO) -> tuple[set[str], int]:
    """Returns the images of the complete lines, and the length of these lines in bytes."""
    _check_start(stream, b'{"path": ')
    lines = list(_whole_rows(stream, quotes=False))
    return {_key(json.loads(line)["path"]) for line in lines}, sum(map(len, lines))


def _read_csv(stream: BinaryIO, expected: set[str], ranks: int) -> tuple[set[str], int]:
    """Returns the images of the complete rows, and the length of these rows in bytes.

    An image has several rows. If the last image is `expected` and has fewer than `ranks`, its rows do not count.
    """
    _check_start(stream, HEADER)
    rows = _whole_rows(stream, quotes=True)
    size = start = len(next(rows, b""))
    done: set[str] = set()
    last, count, error = None, 0, ""
    for row in rows:
        (values,) = csv.reader([row.decode()])
        path, *_, error = values
        if path != last:
            last, count, start = path, 0, size
        count += 1
        size += len(row)
        done.add(_key(path))
    if last is not None and count < ranks and not error and _key(last) in expected:
        return done - {_key(last)}, start
    return done, size


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
