"""A CSV or JSON lines file of predictions; a second start adds the missing images."""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from animesion_jax.errors import InputError, encodable, first_line
from animesion_jax.files import local_path, locked
from animesion_jax.inference.writers import CSV_HEADER, Row, Writer, csv_line, write_csv_rows, write_jsonl

FORMATS: dict[str, Writer] = {".csv": write_csv_rows, ".jsonl": write_jsonl}
HEADER = csv_line(CSV_HEADER).encode()


@contextlib.contextmanager
def open_result_file(output: str) -> Iterator["ResultFile"]:
    """Opens a local file of predictions, new or existing, and locks it during the block.

    Raises:
      InputError: not a file named *.csv or *.jsonl, or another process has opened it.
    """
    path = local_path(output)
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

    def missing(self, files: Sequence[Path], names: Sequence[str], top_k: int) -> list[Path]:
        """Returns the images without a row in the file, each once; cuts off an incomplete last row.

        Compares absolute paths, since the file may have paths relative to the current folder.

        Args:
          files: images to predict.
          names: characters of the bundle, by class id.
          top_k: characters per image, if the bundle has as many.

        Raises:
          InputError: the file does not hold predictions, or those of another bundle or `top_k`.
        """
        by_key = {_key(str(file)): file for file in files}
        ranks = min(top_k, len(names))
        with self._path.open("r+b") as stream:
            try:
                if self._suffix == ".csv":
                    done, size = _read_csv(stream, set(by_key), names, ranks)
                else:
                    done, size = _read_jsonl(stream, names, ranks)
            except InputError as error:
                raise InputError(f"--output={self._output} has {error}; give another file") from error
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

    def write(self, rows: Iterable[Row]) -> None:
        """Appends rows."""
        with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            FORMATS[self._suffix](rows, stream)


def _key(path: str) -> str:
    return os.path.abspath(encodable(path))


def _read_jsonl(stream: BinaryIO, names: Sequence[str], ranks: int) -> tuple[set[str], int]:
    """Returns the images of the complete lines, and the length of these lines in bytes."""
    _check_start(stream, b'{"path": ')
    done, size = set(), 0
    for line in _whole_rows(stream, quotes=False):
        row = json.loads(line)
        if "error" not in row:
            _check_number(len(row["predictions"]), ranks)
            for each in row["predictions"]:
                _check_name(each["class"], each["class_id"], names)
        done.add(_key(row["path"]))
        size += len(line)
    return done, size


def _read_csv(stream: BinaryIO, expected: set[str], names: Sequence[str], ranks: int) -> tuple[set[str], int]:
    """Returns the images of the complete rows, and the length of these rows in bytes.

    An image has `ranks` rows, or one with its error. If the last image is `expected` and has fewer, its rows do not
    count.
    """
    _check_start(stream, HEADER)
    rows = _whole_rows(stream, quotes=True)
    size = start = len(next(rows, b""))
    done: set[str] = set()
    last, count, error = None, 0, ""
    for row in rows:
        (values,) = csv.reader([row.decode()])
        if values[0] != last:
            if last is not None and not error:
                _check_number(count, ranks)
            last, count, start = values[0], 0, size
        _, _, name, class_id, *_, error = values
        if not error:
            _check_name(name, int(class_id), names)
        count += 1
        size += len(row)
        done.add(_key(last))
    if last is None or error:
        return done, size
    if count < ranks and _key(last) in expected:
        return done - {_key(last)}, start
    _check_number(count, ranks)
    return done, size


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
