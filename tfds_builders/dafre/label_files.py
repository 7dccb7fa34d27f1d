"""The label files (TSV) of raw DAF; a malformed file raises InputError."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from animesion_jax.errors import InputError
from tfds_builders.common.manual_data import (
    check_distinct,
    excerpt,
    is_id,
    naming,
    note_image,
    read_lines,
    relative_path,
)

MIN_CONFIDENCE = 0.85


class Box(NamedTuple):
    """Bounding box of a head, as fractions of the original image's width and height, and the detector's confidence."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float


class Row(NamedTuple):
    """An image of raw DAF: path below data/, tag id and box."""

    path: str
    tag: int
    box: Box


def parse_raw_line(line: str) -> Row:
    r"""Parses a line of faces.tsv: `0446\332446.jpg <TAB> tag <TAB> left, top, right, bottom confidence`."""
    columns = line.split("\t")
    if len(columns) != 3 or not is_id(columns[1].strip()):
        raise ValueError("expected path <TAB> tag id <TAB> left, top, right, bottom confidence")
    try:
        numbers = [float(text) for text in re.split(r"[,\s]+", columns[2].strip()) if text]
    except ValueError:
        numbers = []
    if len(numbers) != 5 or not all(map(math.isfinite, numbers)):
        raise ValueError("expected five numbers: left, top, right, bottom confidence")
    return Row(relative_path(columns[0]), int(columns[1]), Box(*numbers))


def clip_box(box: Box) -> Box:
    """Returns a box clipped to the image, as TFDS requires; the detector's may exceed it slightly.

    Raises:
      ValueError: the box is outside of the image.
    """
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in box[:4])
    if left >= right or top >= bottom:
        raise ValueError("the box is empty; expected left < right and top < bottom, as fractions of the image, 0 to 1")
    return Box(left, top, right, bottom, box.confidence)


def read_faces(path: Path) -> list[Row]:
    """Returns the rows of faces.tsv with a confidence of at least 0.85, in file order, boxes clipped.

    Raises:
      ValueError: a line cannot be parsed, or a returned row has an empty box or repeats an image; names file, line
        and content.
    """
    rows = []
    seen: dict[str, str] = {}
    for where, line in read_lines(path):
        with naming(where, line):
            row = parse_raw_line(line)
            if row.box.confidence >= MIN_CONFIDENCE:
                note_image(seen, row.path, where)
                rows.append(row._replace(box=clip_box(row.box)))
    return rows


def read_tag_names(path: Path, tags: Sequence[int]) -> dict[int, str]:
    """Returns names by tag id for `tags`, from tagIds.tsv (`name <TAB> tag id`).

    Raises:
      InputError: a line cannot be parsed, one of `tags` has no name or two names, or two of `tags` share a name.
    """
    wanted = set(tags)
    names: dict[int, str] = {}
    for where, line in read_lines(path):
        with naming(where, line):
            name, _, tag = line.rpartition("\t")
            if not is_id(tag.strip()) or not name.strip():
                raise ValueError("expected tag name <TAB> tag id")
            if int(tag) in wanted and names.setdefault(int(tag), name.strip()) != name.strip():
                raise ValueError(
                    f"tag id {int(tag)} already has the name {excerpt(names[int(tag)])}; remove one of the lines"
                )
    unnamed = [tag for tag in tags if tag not in names]
    if unnamed:
        raise InputError(f"{path} has no name for tag id {unnamed[0]} ({len(unnamed)} tags have none)")
    check_distinct(path, names.values())
    return names
