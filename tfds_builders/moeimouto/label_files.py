"""Classes and splits of moeimouto: from the released label files, or from the file names."""

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

# Released file by split.
SPLIT_FILES = {"train": "train.csv", "test": "test.csv"}
# The last commit with the files.
LABELS_COMMIT = "b9ef212aa84f0de8b8bb0bb043cc2d77a15db4fa"
SOURCE = (
    f"{', '.join(SPLIT_FILES.values())} and {NAMES_FILE} in the manual folder or its labels/, from "
    f"https://github.com/arkel23/animesion/tree/{LABELS_COMMIT}/classification/data/moeImouto"
)


class Labels(NamedTuple):
    """Names by class id, and (class id, path NNN_name/FILE.png) of every image by split."""

    names: list[str]
    rows: dict[str, list[tuple[int, str]]]

    def paths(self) -> list[str]:
        """Returns the paths of all splits."""
        return [path for rows in self.rows.values() for _, path in rows]


def read_labels(manual: Path) -> Labels | None:
    """Returns the labels in the released files, or None without such files.

    Class names come from classid_classname.csv, else from the folders of the images. Every image must be in the folder
    of its class.

    Raises:
      InputError: one of the split files is missing, an image is in another folder, or see `released_labels`.
    """
    files = (*SPLIT_FILES.values(), NAMES_FILE)
    folders = [folder for folder in (manual / "labels", manual) if any((folder / file).exists() for file in files)]
    if not folders:
        return None
    folder = folders[0]
    manual_data.require(
        folder, SPLIT_FILES.values(), f"expected: {SOURCE}; or remove all of them to split by file name"
    )
    named = (folder / NAMES_FILE).exists()
    names = dict(enumerate(read_class_names(folder / NAMES_FILE))) if named else {}

    def check(class_id: int, path: str) -> None:
        character, _, file = path.rpartition("/")
        if not is_face(character, file):
            raise ValueError("expected class_id,NNN_name/FILE.png")
        if named:
            check_named(class_id, names)
        if names.setdefault(class_id, character) != character:
            raise ValueError(
                f"class id {class_id} is {manual_data.excerpt(names[class_id])}; expected an image in that folder"
            )

    seen: dict[str, str] = {}
    rows = {split: read_released_split(folder / file, check, seen) for split, file in SPLIT_FILES.items()}
    return Labels(order_names(folder, names), rows)


def label_by_name(paths: Iterable[str]) -> Labels:
    """Numbers classes by folder name and splits each 0.8 / 0.2 in order of its file names."""
    ordered = sorted(path.split("/") for path in paths)
    folders = [folder for folder, _ in ordered]
    names = sorted(set(folders))
    class_ids = {name: class_id for class_id, name in enumerate(names)}
    rows: dict[str, list[tuple[int, str]]] = {split: [] for split in SPLIT_FILES}
    for (folder, file), split in zip(ordered, splits.assign_splits(folders, splits.train_test_sizes), strict=True):
        rows[split].append((class_ids[folder], f"{folder}/{file}"))
    return Labels(names, rows)
