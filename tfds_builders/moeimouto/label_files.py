"""Who is on which image of moeimouto, and its split: from the released label files, or from the names."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tfds_builders.common import manual_data, splits
from tfds_builders.common.released_labels import (
    NAMES_FILE,
    check_named,
    order_names,
    read_class_names,
    read_released_split,
)
from tfds_builders.moeimouto.face_files import is_face

# The released files by the name of the split.
SPLIT_FILES = {"train": "train.csv", "test": "test.csv"}
SOURCE = (
    f"{', '.join(SPLIT_FILES.values())} and {NAMES_FILE} in the manual folder or its labels/, from "
    "github.com/arkel23/animesion, classification/data/moeImouto"
)


class Labels(NamedTuple):
    """The class names by class id, and (class id, path NNN_name/FILE.png) of the images by split."""

    names: list[str]
    rows: dict[str, list[tuple[int, str]]]

    def paths(self) -> list[str]:
        """Returns the paths of all splits."""
        return [path for rows in self.rows.values() for _, path in rows]


def read_labels(manual: Path) -> Labels | None:
    """Returns what the released label files say, or None if there are none.

    The class names are those of classid_classname.csv; without it, the folders of the paths. Either way an image
    must lie in the folder that its class is named after.

    Raises:
      FileNotFoundError: some of the files are there, but not every split's.
      ValueError: what the readers of `released_labels` raise, or an image in another folder.
    """
    files = (*SPLIT_FILES.values(), NAMES_FILE)
    folders = [folder for folder in (manual / "labels", manual) if any((folder / file).exists() for file in files)]
    if not folders:
        return None
    folder = folders[0]
    manual_data.require(folder, SPLIT_FILES.values(), f"expected: {SOURCE}; or none of them, to split by file name")
    named = (folder / NAMES_FILE).exists()
    names = dict(enumerate(read_class_names(folder / NAMES_FILE))) if named else {}

    def check(class_id: int, path: str) -> None:
        character, _, file = path.rpartition("/")
        if not is_face(character, file):
            raise ValueError("expected class_id,NNN_name/FILE.png")
        if named:
            check_named(class_id, names)
        if names.setdefault(class_id, character) != character:
            raise ValueError(f"class id {class_id} is {names[class_id]!r}; expected an image in that folder")

    seen: dict[str, str] = {}
    rows = {split: read_released_split(folder / file, check, seen) for split, file in SPLIT_FILES.items()}
    return Labels(order_names(folder, names), rows)


def label_by_name(paths: Iterable[str]) -> Labels:
    """Returns classes numbered by folder name, each split 0.8 / 0.2 in order of its file names."""
    ordered = sorted(path.split("/") for path in paths)
    folders = [folder for folder, _ in ordered]
    names = sorted(set(folders))
    class_ids = {name: class_id for class_id, name in enumerate(names)}
    rows: dict[str, list[tuple[int, str]]] = {split: [] for split in SPLIT_FILES}
    for (folder, file), split in zip(ordered, splits.assign_splits(folders, splits.train_test_sizes), strict=True):
        rows[split].append((class_ids[folder], f"{folder}/{file}"))
    return Labels(names, rows)
