"""The released label files (CSV) of DAF:re and moeimouto; a malformed file raises InputError."""

import csv
import re
from collections.abc import Callable, Mapping, Sized
from pathlib import Path

from animesion_jax.errors import InputError
from tfds_builders.common.manual_data import check_distinct, is_id, naming, note_image, read_lines, relative_path

NAMES_FILE = "classid_classname.csv"
# A quotation mark that opens a column. Others are part of a name.
OPENING_QUOTE = re.compile(r'(^|,) *"')


def split_columns(line: str) -> list[str]:
    """Returns the columns of a line of CSV, without the empty ones at its end.

    Without quotation marks, as in the released files, a name or path may have commas: the caller joins its columns.

    Raises:
      ValueError: a line with a quoted column is malformed, or does not have two columns.
    """
    line = line.rstrip(", \t")
    if not OPENING_QUOTE.search(line):
        return line.split(",")
    try:
        (columns,) = csv.reader([line], strict=True, skipinitialspace=True)
    except csv.Error:
        columns = []
    if len(columns) != 2:
        raise ValueError(
            "expected two columns; quote a column that has commas or quotation marks, close it on the same line, and "
            'double the quotation marks in it: 0,"Lily ""Saber"", the first"'
        )
    return columns


def parse_released_line(line: str) -> tuple[int, str]:
    """Returns (class id, path) of a line `class_id,path`, or `path,class_id` in older releases."""
    columns = split_columns(line)
    for class_id, path in ((columns[0], columns[1:]), (columns[-1], columns[:-1])):
        text = ",".join(path).strip()
        if is_id(class_id.strip()) and text and not is_id(text):
            return int(class_id), relative_path(text)
    raise ValueError("expected class_id,path or path,class_id")


def read_released_split(path: Path, check: Callable[[int, str], None], seen: dict[str, str]) -> list[tuple[int, str]]:
    """Returns (class id, path) of every line of a split file.

    A class may lack images in a split: DAF:re's smaller classes have none to validate on.

    Args:
      path: the file.
      check: called with class id and path of every line; raises ValueError to refuse it.
      seen: images listed so far, see `note_image`; gets those of this file.

    Raises:
      InputError: the file is empty, a line cannot be parsed or is refused, or an image is listed twice.
    """
    examples = []
    for where, line in read_lines(path):
        with naming(where, line):
            class_id, image = parse_released_line(line)
            check(class_id, image)
            note_image(seen, image, where)
        examples.append((class_id, image))
    if not examples:
        raise InputError(f"{path} lists no image; every split needs at least one line class_id,path")
    return examples


def check_named(class_id: int, names: Sized) -> None:
    """Raises ValueError unless the class id is an index into the names."""
    if class_id >= len(names):
        raise ValueError(f"class id {class_id} has no name in {NAMES_FILE}; allowed: 0 to {len(names) - 1}")


def read_class_names(path: Path) -> list[str]:
    """Returns names by class id from lines `class_id,class_name`; ids must be 0 to K-1, names distinct."""
    names: dict[int, str] = {}
    for where, line in read_lines(path):
        with naming(where, line):
            class_id, *columns = split_columns(line)
            name = ",".join(columns).strip()
            if not is_id(class_id.strip()) or not name or int(class_id) in names:
                raise ValueError("expected class_id,class_name with a new class id")
            names[int(class_id)] = name
    if not names:
        raise InputError(f"{path} names no class; expected lines class_id,class_name")
    return order_names(path, names)


def order_names(path: Path, names: Mapping[int, str]) -> list[str]:
    """Returns names by class id; InputError unless the ids are 0 to K-1 and the names distinct."""
    if sorted(names) != list(range(len(names))):
        absent = min(set(range(len(names) + 1)) - set(names))
        raise InputError(f"{path}: class ids must be 0 to {len(names) - 1} without a gap; {absent} is missing")
    ordered = [names[class_id] for class_id in range(len(names))]
    check_distinct(path, ordered)
    return ordered
