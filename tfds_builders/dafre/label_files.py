"""The label files of DAF:re (released CSVs) and of raw DAF (TSVs); every outcome is a result or a ValueError."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tfds_builders.manual_data import read_lines, relative_path

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


def read_released_split(path: Path, num_classes: int) -> list[tuple[int, str]]:
    """Returns (class id, path) of every line of a split file.

    Raises:
      ValueError: a line that cannot be parsed or a class id without a name, with file, line and content.
    """
    examples = []
    for where, line in read_lines(path):
        try:
            class_id, image = parse_released_line(line)
            if class_id >= num_classes:
                raise ValueError(f"class id {class_id} has no name in {NAMES_FILE}; allowed: 0 to {num_classes - 1}")
        except ValueError as error:
            raise ValueError(f"{where}: {line!r}: {error}") from error
        examples.append((class_id, image))
    return examples


def read_class_names(path: Path) -> list[str]:
    """Returns the names by class id of `class_id,class_name` lines; ids must be 0 to K-1, names distinct."""
    names: dict[int, str] = {}
    for where, line in read_lines(path):
        class_id, _, name = line.partition(",")
        if not class_id.strip().isdecimal() or not name.strip() or int(class_id) in names:
            raise ValueError(f"{where}: {line!r}: expected class_id,class_name with a new class id")
        names[int(class_id)] = name.strip()
    if sorted(names) != list(range(len(names))):
        absent = min(set(range(len(names) + 1)) - set(names))
        raise ValueError(f"{path}: class ids must be 0 to {len(names) - 1} without a gap; {absent} is missing")
    ordered = [names[class_id] for class_id in range(len(names))]
    check_distinct(path, ordered)
    return ordered


def check_distinct(path: Path, names: Sequence[str]) -> None:
    """Raises ValueError naming the first class name that two classes share."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{path}: the class name {name!r} stands for two classes")
        seen.add(name)


def parse_raw_line(line: str) -> Row:
    r"""Returns a line of faces.tsv: `0446\332446.jpg <TAB> tag <TAB> left, top, right, bottom confidence`."""
    columns = line.split("\t")
    if len(columns) != 3 or not columns[1].strip().isdecimal():
        raise ValueError("expected path <TAB> tag id <TAB> left, top, right, bottom confidence")
    numbers = [float(text) for text in re.split(r"[,\s]+", columns[2].strip()) if text]
    if len(numbers) != 5 or not all(map(math.isfinite, numbers)):
        raise ValueError("expected five numbers: left, top, right, bottom confidence")
    # A detector's box may stick out of the picture a little; TFDS takes boxes inside only.
    left, top, right, bottom = (min(max(number, 0.0), 1.0) for number in numbers[:4])
    if left >= right or top >= bottom:
        raise ValueError("the box is empty: left must be less than right and top less than bottom")
    return Row(relative_path(columns[0]), int(columns[1]), Box(left, top, right, bottom, numbers[4]))


def read_faces(path: Path) -> list[Row]:
    """Returns the rows of faces.tsv whose confidence is at least 0.85, in file order."""
    rows = []
    for where, line in read_lines(path):
        try:
            row = parse_raw_line(line)
        except ValueError as error:
            raise ValueError(f"{where}: {line!r}: {error}") from error
        if row.box.confidence >= MIN_CONFIDENCE:
            rows.append(row)
    return rows


def read_tag_names(path: Path, tags: Sequence[int]) -> list[str]:
    """Returns the names of `tags` from tagIds.tsv (`name <TAB> tag id`), which holds many more tags."""
    names: dict[int, str] = {}
    for where, line in read_lines(path):
        name, _, tag = line.rpartition("\t")
        if not tag.strip().isdecimal() or not name.strip():
            raise ValueError(f"{where}: {line!r}: expected tag name <TAB> tag id")
        names[int(tag)] = name.strip()
    unnamed = [tag for tag in tags if tag not in names]
    if unnamed:
        raise ValueError(f"{path} has no name for tag id {unnamed[0]} ({len(unnamed)} tags are without one)")
    kept = [names[tag] for tag in tags]
    check_distinct(path, kept)
    return kept
