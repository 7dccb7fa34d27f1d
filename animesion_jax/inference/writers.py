"""Formats for predictions. A row is {"path", "unknown", "predictions"} or {"path", "error"} and is written at once.

Streams must have errors="backslashreplace", which writes undecodable bytes of file names as JSON does, "\\udcff"; all
but the table need UTF-8.
"""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

from animesion_jax.errors import UNPRINTABLE, escape

Row = dict[str, Any]
# Name in the output for characters that a bundle does not know.
UNKNOWN = "unknown"
TABLE_HEADER = ("file", "character", "probability", "next likeliest")
# In terminal columns; longer names move the rest of their line.
MAX_NAME_WIDTH = 24
CSV_HEADER = ("path", "rank", "class", "class_id", "probability", "unknown", "error")


def write_table(rows: Iterable[Row], stream: TextIO, files: Sequence[Path], names: Sequence[str]) -> None:
    """Writes a header and a line per image: path, character, its probability, and the next likeliest characters.

    The line of an unknown character has "unknown", no probability, and its likeliest characters at the end: as many as
    the other lines, but at least one.

    Args:
      rows: of images.
      stream: the terminal or a file.
      files: the paths of all rows; they and `names` give the columns' widths.
      names: all characters.
    """
    file, character, probability, _ = TABLE_HEADER
    widths = (
        _width([file, *map(str, files)]),
        min(_width([character, UNKNOWN, *names]), MAX_NAME_WIDTH),
        len(probability),
    )
    for cells in itertools.chain([TABLE_HEADER], map(_cells, rows)):
        padded = [cell + " " * (width - columns(cell)) for cell, width in zip(cells[:-1], widths, strict=True)]
        print("  ".join([*padded, cells[-1]]).rstrip(), file=stream, flush=True)


def _cells(row: Row) -> tuple[str, str, str, str]:
    """Returns the cells of a row of the table."""
    path = escape(row["path"])
    if "error" in row:
        return path, "error", "", row["error"]
    named = [(escape(each["class"]), f"{each['probability']:.1%}") for each in row["predictions"]]
    if row["unknown"]:
        character, probability, others = UNKNOWN, "", named[: max(len(named) - 1, 1)]
    else:
        (character, probability), *others = named
    listed = ", ".join(f"{name} {share}" for name, share in others)
    return path, character, probability.rjust(len(TABLE_HEADER[2])), listed


def _width(texts: Iterable[str]) -> int:
    return max(columns(escape(text)) for text in texts)


def columns(text: str) -> int:
    """Returns the width of a text in terminal columns: 2 for wide letters, 0 for combining accents."""
    return sum(2 if east_asian_width(letter) in "WF" else not combining(letter) for letter in text)


def write_json(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a JSON array of one object per image."""
    separator = "["
    for row in rows:
        text = json.dumps(row, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        print(f"{separator}\n  {text}", end="", file=stream, flush=True)
        separator = ","
    print("\n]" if separator == "," else "[]", file=stream)


def write_jsonl(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a JSON object per line and image."""
    for row in rows:
        print(json_line(row), file=stream, flush=True)


def json_line(row: Row) -> str:
    """Returns one line of JSON, with escapes for U+2028 and other characters at which many readers split lines."""
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(row, ensure_ascii=False))


def write_csv(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a header and the lines of `write_csv_rows`."""
    stream.write(csv_line(CSV_HEADER))
    write_csv_rows(rows, stream)


def write_csv_rows(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a CSV line per image and rank from 1; "unknown" is true, false, or empty without a calibration."""
    for row in rows:
        unknown = "" if row.get("unknown") is None else json.dumps(row["unknown"])
        lines = [
            csv_line([row["path"], rank, each["class"], each["class_id"], each["probability"], unknown, ""])
            for rank, each in enumerate(row.get("predictions", []), start=1)
        ]
        stream.write("".join(lines) or csv_line([row["path"], "", "", "", "", "", row["error"]]))
        stream.flush()


def csv_line(values: Sequence[Any]) -> str:
    r"""Returns a CSV line that ends in "\n"; csv quotes a "\r" only if it belongs to its line terminator."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


Writer = Callable[[Iterable[Row], TextIO], None]
WRITERS: dict[str, Writer] = {"json": write_json, "jsonl": write_jsonl, "csv": write_csv}
