"""A CSV or JSON lines file of predictions; a second start adds the missing images."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from animesion_jax.errors import InputError, encodable, first_line
from animesion_jax.files import expand_home
from animesion_jax.inference.writers import CSV_HEADER, Row, Writer, csv_line, write_csv_rows, write_jsonl

FORMATS: dict[str, Writer] = {".csv": write_csv_rows, ".jsonl": write_jsonl}
HEADER = csv_line(CSV_HEADER).encode()


class ResultFile:
    """A file of predictions. Each row is on disk as soon as it is written.

    Attributes:
      left: the images without a row in the file, in the order given.
    """

    def __init__(self, output: str, files: Sequence[Path], ranks: int):
        """Creates the file, or reads which images it has and cuts off an incomplete last row.

        Args:
          output: local path, *.csv or *.jsonl.
          files: images to predict.
          ranks: rows of an image in CSV.

        Raises:
          InputError: another ending, or a file that does not hold predictions.
        """
        self._path = Path(expand_home(output))
        suffix = self._path.suffix.lower()
        if suffix not in FORMATS or self._path.is_dir():
            raise InputError(f"--output={output}: allowed: a file named {' or '.join(f'*{name}' for name in FORMATS)}")
        self._write = FORMATS[suffix]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as stream:
            stream.seek(0)
            try:
                done, size = _read_csv(stream, files, ranks) if suffix == ".csv" else _read_jsonl(stream)
            except (ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
                raise InputError(
                    f"--output={output} does not hold predictions ({first_line(error)}); allowed: a new name, or a "
                    "file that predict wrote"
                ) from error
            stream.truncate(size)
            if suffix == ".csv" and not size:
                stream.write(HEADER)
        self.left = [file for file in files if encodable(str(file)) not in done]

    def write(self, rows: Iterable[Row]) -> None:
        """Appends the rows of the images in `left`."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            self._write(rows, stream, self.left)


def _read_jsonl(stream: BinaryIO) -> tuple[set[str], int]:
    """Returns the images of the complete lines, and the length of these lines in bytes."""
    _check_start(stream, b'{"path": ')
    lines = list(_whole_rows(stream, quotes=False))
    return {encodable(json.loads(line)["path"]) for line in lines}, sum(map(len, lines))


def _read_csv(stream: BinaryIO, files: Sequence[Path], ranks: int) -> tuple[set[str], int]:
    """Returns the images of the complete rows, and the length of these rows in bytes.

    An image has several rows. If the last image is one of `files` and has fewer than `ranks`, its rows do not count.
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
        done.add(path)
    if count < ranks and not error and last in {encodable(str(file)) for file in files}:
        return done - {last}, start
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
