"""Formats for rows of images, and of whole pictures; a row is written at once.

Streams must have errors="backslashreplace", which writes undecodable bytes of file names as JSON does, "\\udcff"; all
but the table need UTF-8.
"""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

from animesion_jax.errors import UNPRINTABLE, escape
from animesion_jax.inference.rows import UNKNOWN, Row

TABLE_HEADER = ("file", "character", "probability", "next likeliest")
# Of whole pictures: the second column has the number of the head.
PICTURES_TABLE_HEADER = ("file", "head", *TABLE_HEADER[1:])
NO_HEAD = "no head"
# In terminal columns; longer names move the rest of their line.
MAX_NAME_WIDTH = 24
CSV_HEADER = ("path", "rank", "class", "class_id", "probability", "unknown", "error")
# Of whole pictures: a line per head and rank.
PICTURES_CSV_HEADER = (
    "path", "face", "faces", "left", "top", "right", "bottom", "confidence", *CSV_HEADER[1:]
)  # fmt: skip


def write_table(
    rows: Iterable[Row], stream: TextIO, files: Sequence[Path], names: Sequence[str], pictures: bool = False
) -> None:
    """Writes a header and a line per image: path, character, its probability, and the next likeliest characters.

    The line of an unknown character has "unknown", no probability, and its likeliest characters at the end: as many as
    the other lines, but at least one.

    Args:
      rows: of images, or of whole pictures.
      stream: the terminal or a file.
      files: the paths of all rows; they and `names` give the columns' widths.
      names: all characters.
      pictures: whether the rows are of whole pictures; they have a line per head, with its number.
    """
    file, *_, character, probability, _ = header = PICTURES_TABLE_HEADER if pictures else TABLE_HEADER
    widths = (
        _width([file, *map(str, files)]),
        *([len("head")] if pictures else []),
        min(_width([character, UNKNOWN, *names]), MAX_NAME_WIDTH),
        len(probability),
    )
    lines = map(_picture_lines, rows) if pictures else ([_cells(row)] for row in rows)
    for cells in itertools.chain([header], itertools.chain.from_iterable(lines)):
        padded = [cell + " " * (width - columns(cell)) for cell, width in zip(cells[:-1], widths, strict=True)]
        print("  ".join([*padded, cells[-1]]).rstrip(), file=stream, flush=True)


def _picture_lines(row: Row) -> Iterator[tuple[str, ...]]:
    """Yields the cells of the lines of a whole picture."""
    if not row.get("faces"):
        path, *cells = _cells(row) if "error" in row else (escape(row["path"]), NO_HEAD, "", "")
        yield path, "", *cells
    for number, face in enumerate(row.get("faces", []), start=1):
        path, *cells = _cells({"path": row["path"], **face})
        yield path, str(number).rjust(len("head")), *cells


def _cells(row: Row) -> tuple[str, str, str, str]:
    """Returns the cells of the table for an image, or for one head."""
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


def write_pictures_csv(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a header and the lines of `write_pictures_csv_rows`."""
    stream.write(csv_line(PICTURES_CSV_HEADER))
    write_pictures_csv_rows(rows, stream)


def write_csv_rows(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a CSV line per image and rank from 1; "unknown" is true, false, or empty without a calibration."""
    for row in rows:
        lines = [csv_line([row["path"], *cells]) for cells in _ranked_cells(row)]
        stream.write("".join(lines))
        stream.flush()


def write_pictures_csv_rows(rows: Iterable[Row], stream: TextIO) -> None:
    """Writes a CSV line per head and rank, both from 1, with the picture's number of heads; one line without a head."""
    for row in rows:
        faces = row.get("faces", [])
        lines = [
            csv_line([row["path"], number, len(faces), *face["box"], face["confidence"], *cells])
            for number, face in enumerate(faces, start=1)
            for cells in _ranked_cells(face)
        ]
        if not faces:
            count = "" if "error" in row else 0
            lines = [csv_line([row["path"], "", count, *[""] * 5, *cells]) for cells in _ranked_cells(row)]
        stream.write("".join(lines))
        stream.flush()


def _ranked_cells(row: Row) -> list[list[Any]]:
    """Returns the cells after the path, for each rank of an image or head; without predictions, one line of cells."""
    unknown = "" if row.get("unknown") is None else json.dumps(row["unknown"])
    cells = [
        [rank, each["class"], each["class_id"], each["probability"], unknown, ""]
        for rank, each in enumerate(row.get("predictions", []), start=1)
    ]
    return cells or [[*[""] * 5, row.get("error", "")]]


def csv_line(values: Sequence[Any]) -> str:
    r"""Returns a CSV line that ends in "\n"; csv quotes a "\r" only if it belongs to its line terminator."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


Writer = Callable[[Iterable[Row], TextIO], None]
WRITERS: dict[str, Writer] = {"json": write_json, "jsonl": write_jsonl, "csv": write_csv}
PICTURES_WRITERS = WRITERS | {"csv": write_pictures_csv}
