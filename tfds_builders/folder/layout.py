"""The image files of a folder: `CHARACTER/IMAGE`, or `train/CHARACTER/IMAGE` and the like."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from animesion_jax.errors import InputError
from animesion_jax.images import read_level, walk

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
      left_out: number of other files, system folders and links to deeper folders, by kind.
    """

    folder: Path
    has_splits: bool
    images: list[CharacterImage]
    characters: list[str]
    loose: list[str]
    left_out: Counter[str]


def read_layout(folder: Path) -> FolderLayout:
    """Returns the layout of a folder; opens no file.

    Finds the images that `find_images` finds, and those below links to characters' folders.

    Raises:
      InputError: no such folder, no character's folder in it, or folders that may be both splits and characters.
      OSError: a folder cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; {EXPECTED}")
    left_out: Counter[str] = Counter()
    top = read_level(folder, left_out)
    splits = _split_folders(folder, [*top.folders, *top.links])
    levels = [(split, read_level(folder / name, left_out)) for name, split in splits.items()] or [(None, top)]
    images, characters, loose = [], set(), list(top.images) if splits else []
    for split, level in levels:
        loose += level.images
        for character in (*level.folders, *level.links):
            characters.add(character.name)
            for file in walk(character, left_out, _refuse):
                images.append(CharacterImage(file, _relative_name(file, folder), character.name, split))
    if not characters:
        raise InputError(f"{folder} holds no folder; {EXPECTED}")
    images.sort(key=lambda image: (image.character, image.name))
    loose_names = sorted(_relative_name(file, folder) for file in loose)
    return FolderLayout(folder, bool(splits), images, sorted(characters), loose_names, left_out)


def _split_folders(folder: Path, inside: Sequence[Path]) -> dict[str, str]:
    """Returns the split of each folder in `inside`, by name; empty if the folders are characters."""
    names = sorted(path.name for path in inside)
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
    level = read_level(folder, Counter())
    return bool(level.folders or level.links) and not level.images


def _refuse(error: OSError) -> None:
    raise error


def _relative_name(path: Path, folder: Path) -> str:
    return os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace")
