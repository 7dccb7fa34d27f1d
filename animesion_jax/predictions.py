"""What predict prints: rows of {"path", "predictions"} or {"path", "error"} as a table, JSON or CSV."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unicodedata import combining, east_asian_width

from animesion_jax.errors import escape


def write_table(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a line per image: path, then characters with probabilities, likeliest first."""
    paths = [escape(row["path"]) for row in rows]
    width = max(map(columns, paths))
    for path, row in zip(paths, rows, strict=True):
        named = [f"{escape(each['class'])} {100 * each['probability']:.1f}%" for each in row.get("predictions", [])]
        print(f"{path}{' ' * (width - columns(path))}  {', '.join(named) or 'error: ' + row['error']}")


def columns(text: str) -> int:
    """Returns the columns of a terminal that a text takes: two for a wide letter, none for an accent of its own."""
    return sum(2 if east_asian_width(letter) in "WF" else not combining(letter) for letter in text)


def write_json(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a JSON array with an object per image; letters that the output's encoding lacks are escaped."""
    text = json.dumps(rows, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(rows, indent=2)
    print(text)


def write_csv(rows: Sequence[dict[str, Any]]) -> None:
    """Prints a CSV line per image and rank: path, rank from 1, class, class_id, probability, error."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "rank", "class", "class_id", "probability", "error"])
    for row in rows:
        if "error" in row:
            writer.writerow([row["path"], "", "", "", "", row["error"]])
        for rank, each in enumerate(row.get("predictions", []), start=1):
            writer.writerow([row["path"], rank, each["class"], each["class_id"], each["probability"], ""])


WRITERS: dict[str, Callable[[Sequence[dict[str, Any]]], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}
