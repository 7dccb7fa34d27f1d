"""The pictures in a folder: `CHARACTER/PICTURE`, or `train/CHARACTER/PICTURE` and the like; what else lies there."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from animesion_jax.errors import InputError
from animesion_jax.images import EXPLAINED, is_image_name

# Folders that are splits, by name in lower case, where train is one of them.
SPLIT_FOLDERS = {
    "train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test",
}  # fmt: skip
# Other names that folders of splits go by: with folders in them, and nothing else, they are hardly characters.
LIKE_SPLITS = {*SPLIT_FOLDERS, "training", "dev", "eval", "testing"}
EXPECTED = "expected: a folder of pictures per character, or train/, validation/ and test/ with such folders"


class Picture(NamedTuple):
    """An image file.

    Attributes:
      path: where it is.
      name: the same from the folder on, with forward slashes, as text that can be printed and stored.
      character: name of the folder that it lies in, at any depth.
      split: "train", "validation" or "test" if it lies in a folder of the split, None if a rule is to decide.
    """

    path: Path
    name: str
    character: str
    split: str | None


@dataclass(frozen=True)
class Pictures:
    """What a folder holds.

    Attributes:
      folder: its path.
      has_splits: whether it is divided into splits.
      files: its pictures, sorted by character, then by name.
      characters: names of the characters' folders, sorted, over all splits; some may hold no picture.
      loose: names of the pictures that lie in no character's folder.
      others: how many files are no pictures by their names, by ending in lower case; hidden ones are not counted.
    """

    folder: Path
    has_splits: bool
    files: list[Picture]
    characters: list[str]
    loose: list[str]
    others: Counter


def find_pictures(folder: Path) -> Pictures:
    """Returns what a folder holds; nothing is opened.

    What is hidden is skipped, and so are the maps that explain wrote. Folders within a character's folder belong to
    it; links are followed to files and characters' folders, not to folders further below.

    Raises:
      InputError: no such folder, no character's folder in it, or one that may be both, divided into splits or not.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; {EXPECTED}")
    splits = _split_folders(folder)
    roots = [(split, folder / name) for name, split in splits.items()] or [(None, folder)]
    files, characters, loose, others = [], set(), [], Counter()
    for split, root in roots:
        for path in _visible(root):
            if path.is_dir():
                characters.add(path.name)
                for file in _files_below(path):
                    if is_image_name(file.name):
                        files.append(Picture(file, _name(file, folder), path.name, split))
                    else:
                        others[file.suffix.lower()] += 1
            elif is_image_name(path.name):
                loose.append(_name(path, folder))
            else:
                others[path.suffix.lower()] += 1
    if not characters:
        raise InputError(f"{folder} holds no folder; {EXPECTED}")
    files.sort(key=lambda picture: (picture.character, picture.name))
    return Pictures(folder, bool(splits), files, sorted(characters), sorted(loose), others)


def _split_folders(folder: Path) -> dict[str, str]:
    """Returns the split by name of the folders that are splits; empty where the folders are characters'."""
    names = [path.name for path in _visible(folder) if path.is_dir()]
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in SPLIT_FOLDERS}
    if "train" not in splits.values() or (len(splits) == 1 and len(names) > 1):
        misnamed = [name for name in names if name.lower() in LIKE_SPLITS and _holds_only_folders(folder / name)]
        if misnamed:
            raise InputError(
                f"{folder} holds {', '.join(misnamed)}, which must be splits, for there are only folders in them; "
                f"{EXPECTED}, and nothing beside them: rename or move what is not"
            )
        return {}
    if len(set(splits.values())) < len(splits):
        raise InputError(f"{folder} holds {', '.join(splits)}, of which two are the same split; leave one")
    if len(splits) < len(names):
        other = next(name for name in names if name not in splits)
        raise InputError(f"{folder} holds {', '.join(splits)} beside '{other}'; {EXPECTED}: move one of them elsewhere")
    return splits


def _holds_only_folders(folder: Path) -> bool:
    inside = _visible(folder)
    return bool(inside) and all(path.is_dir() for path in inside)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not _is_skipped(path.name))


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.endswith(EXPLAINED)


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_skipped(name)]
        yield from (Path(parent, name) for name in names if not _is_skipped(name))


def _name(path: Path, folder: Path) -> str:
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
