"""The label files of DAF:re (released CSVs) and of raw DAF (TSVs); every outcome is a result or a ValueError."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tfds_builders.manual_data import naming, note_image, read_lines, relative_path

# The released files by the name of the split.
SPLIT_FILES = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
NAMES_FILE = "classid_classname.csv"
MIN_CONFIDENCE = 0.85


class Box(NamedTuple):
    """A head's bounding box in parts of the original picture's width and height, and the detector's confidence."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float


class Row(NamedTuple):
    """An image of raw DAF: its path below data/, its tag id and its box."""

    path: str
    tag: int
    box: Box


def parse_released_line(line: str) -> tuple[int, str]:
    """Returns the class id and path of `class_id,path`, or of the older `path,class_id`."""
    first, _, rest = line.partition(",")
    if first.strip().isdecimal() and rest.strip() and not rest.strip().isdecimal():
        return int(first), relative_path(rest)
    rest, _, last = line.rpartition(",")
    if last.strip().isdecimal() and rest.strip() and not rest.strip().isdecimal():
        return int(last), relative_path(rest)
    raise ValueError("expected class_id,path or path,class_id")


def read_released_split(path: Path, num_classes: int, seen: dict[str, str]) -> list[tuple[int, str]]:
    """Returns (class id, path) of every line of a split file and adds its images to `seen`.

    A class need not have an image in every split: DAF's smaller classes have none to validate on.

    Raises:
      ValueError: no line at all; or, with file, line and content, one that cannot be parsed, a class id
        without a name, or an image in `seen`.
    """
    examples = []
    for where, line in read_lines(path):
        with naming(where, line):
            class_id, image = parse_released_line(line)
            if class_id >= num_classes:
                raise ValueError(f"class id {class_id} has no name in {NAMES_FILE}; allowed: 0 to {num_classes - 1}")
            note_image(seen, image, where)
        examples.append((class_id, image))
    if not examples:
        raise ValueError(f"{path} lists no image; every split needs at least one line class_id,path")
    return examples


def read_class_names(path: Path) -> list[str]:
    """Returns the names by class id of `class_id,class_name` lines; ids must be 0 to K-1, names distinct."""
    names: dict[int, str] = {}
    for where, line in read_lines(path):
        with naming(where, line):
            class_id, _, name = line.partition(",")
            if not class_id.strip().isdecimal() or not name.strip() or int(class_id) in names:
                raise ValueError("expected class_id,class_name with a new class id")
            names[int(class_id)] = name.strip()
    if not names:
        raise ValueError(f"{path} names no class; expected lines class_id,class_name")
    if sorted(names) != list(range(len(names))):
        absent = min(set(range(len(names) + 1)) - set(names))
        raise ValueError(f"{path}: class ids must be 0 to {len(names) - 1} without a gap; {absent} is missing")
    ordered = [names[class_id] for class_id in range(len(names))]
    check_distinct(path, ordered)
    return ordered


def check_distinct(path: Path, names: Iterable[str]) -> None:
    """Raises ValueError naming the first class name that two classes share."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path}: the class name {name!r} stands for two classes; names must differ")
        seen.add(name)


def parse_raw_line(line: str) -> Row:
    r"""Returns a line of faces.tsv: `0446\332446.jpg <TAB> tag <TAB> left, top, right, bottom confidence`."""
    columns = line.split("\t")
    if len(columns) != 3 or not columns[1].strip().isdecimal():
        raise ValueError("expected path <TAB> tag id <TAB> left, top, right, bottom confidence")
    try:
        numbers = [float(text) for text in re.split(r"[,\s]+", columns[2].strip()) if text]
    except ValueError:
        numbers = []
    if len(numbers) != 5 or not all(map(math.isfinite, numbers)):
        raise ValueError("expected five numbers: left, top, right, bottom confidence")
    return Row(relative_path(columns[0]), int(columns[1]), Box(*numbers))


def clip_box(box: Box) -> Box:
    """Returns the part of a box inside the picture, all that TFDS takes; a detector's may stick out a little.

    Raises:
      ValueError: nothing of the box is inside.
    """
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in box[:4])
    if left >= right or top >= bottom:
        raise ValueError("the box is empty; expected left < right and top < bottom, in parts of the picture, 0 to 1")
    return Box(left, top, right, bottom, box.confidence)


def read_faces(path: Path) -> list[Row]:
    """Returns the rows of faces.tsv whose confidence is at least 0.85, in file order, boxes clipped.

    Raises:
      ValueError: with file, line and content: a line that cannot be parsed; among the rows returned, an empty box
        or a repeated image. Rows that are dropped may have either.
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
    """Returns the names of `tags` by tag id from tagIds.tsv (`name <TAB> tag id`), which holds many more tags.

    Raises:
      ValueError: a line that cannot be parsed; one of `tags` without a name or with two; a name for two of `tags`.
    """
    wanted = set(tags)
    names: dict[int, str] = {}
    for where, line in read_lines(path):
        with naming(where, line):
            name, _, tag = line.rpartition("\t")
            if not tag.strip().isdecimal() or not name.strip():
                raise ValueError("expected tag name <TAB> tag id")
            if int(tag) in wanted and names.setdefault(int(tag), name.strip()) != name.strip():
                raise ValueError(f"tag id {int(tag)} is named {names[int(tag)]!r} before; leave one of the lines out")
    unnamed = [tag for tag in tags if tag not in names]
    if unnamed:
        raise ValueError(f"{path} has no name for tag id {unnamed[0]} ({len(unnamed)} tags are without one)")
    check_distinct(path, names.values())
    return names
