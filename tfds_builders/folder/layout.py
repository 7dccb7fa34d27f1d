"""The image files of a folder: `CHARACTER/IMAGE`, or `train/CHARACTER/IMAGE` and the like."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from animesion_jax.errors import InputError
from animesion_jax.images import EXPLAINED, is_image_name

# Split by folder name in lower case. These names mean splits only if one of the folders is train.
SPLIT_FOLDERS = {
    "train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test",
}  # fmt: skip
# Other usual names of splits. A folder of such a name that holds only folders is unlikely to be a character.
LIKE_SPLITS = {*SPLIT_FOLDERS, "training", "dev", "eval", "testing"}
EXPECTED = "expected: a folder of images per character, or train/, validation/ and test/ with such folders"


class CharacterImage(NamedTuple):
    """An image file of a character.

    Attributes:
      path: path of the file.
      name: path relative to the data set's folder, with forward slashes, as printable UTF-8.
      character: name of the character's folder, which holds the file at any depth.
      split: "train", "validation" or "test" in a folder of that split; None where a rule assigns the split.
    """

    path: Path
    name: str
    character: str
    split: str | None


@dataclass(frozen=True)
class FolderLayout:
    """The files of a folder.

    Attributes:
      folder: its path.
      has_splits: whether it is divided into splits.
      images: image files, sorted by character, then by name.
      characters: sorted names of the characters' folders over all splits; some may hold no image.
      loose: names of image files outside of every character's folder.
      others: number of other files by suffix in lower case, without the hidden ones.
    """

    folder: Path
    has_splits: bool
    images: list[CharacterImage]
    characters: list[str]
    loose: list[str]
    others: Counter


def read_layout(folder: Path) -> FolderLayout:
    """Returns the layout of a folder; opens no file.

    Hidden files and folders and the maps written by explain are skipped. Links to files and to characters' folders
    are followed; links to deeper folders are not.

    Raises:
      InputError: no such folder, no character's folder in it, or folders that may be both splits and characters.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; {EXPECTED}")
    splits = _split_folders(folder)
    roots = [(split, folder / name) for name, split in splits.items()] or [(None, folder)]
    images, characters, loose, others = [], set(), [], Counter()
    for split, root in roots:
        for path in _visible(root):
            if path.is_dir():
                characters.add(path.name)
                for file in _files_below(path):
                    if is_image_name(file.name):
                        images.append(CharacterImage(file, _relative_name(file, folder), path.name, split))
                    else:
                        others[file.suffix.lower()] += 1
            elif is_image_name(path.name):
                loose.append(_relative_name(path, folder))
            else:
                others[path.suffix.lower()] += 1
    if not characters:
        raise InputError(f"{folder} holds no folder; {EXPECTED}")
    images.sort(key=lambda image: (image.character, image.name))
    return FolderLayout(folder, bool(splits), images, sorted(characters), sorted(loose), others)


def _split_folders(folder: Path) -> dict[str, str]:
    """Returns the split by folder name; empty where the folders are characters."""
    names = [path.name for path in _visible(folder) if path.is_dir()]
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in names if name.lower() in SPLIT_FOLDERS}
    if "train" not in splits.values() or (len(splits) == 1 and len(names) > 1):
        misnamed = [name for name in names if name.lower() in LIKE_SPLITS and _holds_only_folders(folder / name)]
        if misnamed:
            raise InputError(
                f"{folder} holds {', '.join(misnamed)} with nothing but folders, so they must be splits; {EXPECTED}; "
                "rename or move the other folders"
            )
        return {}
    if len(set(splits.values())) < len(splits):
        raise InputError(f"{folder} holds {', '.join(splits)}: two folders of one split; keep one")
    if len(splits) < len(names):
        other = next(name for name in names if name not in splits)
        raise InputError(f"{folder} holds {', '.join(splits)} beside '{other}'; {EXPECTED}; move one of them elsewhere")
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


def _relative_name(path: Path, folder: Path) -> str:
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
