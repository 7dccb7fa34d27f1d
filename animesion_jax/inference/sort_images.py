"""Copies of images in a folder per character."""

import filecmp
import itertools
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from animesion_jax.files import replacing
from animesion_jax.inference.writers import UNKNOWN, Row

# What names of folders may not have on some system, and the sign that such letters are written with.
RESERVED = '%/\\:*?"<>|'


def copy_into_folders(rows: Iterable[Row], folder: str) -> Iterator[Row]:
    """Yields the rows of predictions, each after its image was copied to FOLDER/CHARACTER/NAME.

    Images of unknown characters go to FOLDER/unknown, unreadable ones nowhere. Of different images of one name the
    second is called "NAME (2)"; a copy that is there already is left alone: a second start copies no image twice.
    """
    for row in rows:
        if "error" not in row:
            name = UNKNOWN if row["unknown"] else folder_name(row["predictions"][0]["class"])
            copy_once(Path(row["path"]), Path(folder).expanduser() / name)
        yield row


def folder_name(character: str) -> str:
    """Returns the name of a character's folder; different characters have different ones.

    Letters that a system reserves, control characters, and dots and blanks at the ends are written as %XX, and so is
    the first letter of a character that is called like the folder of unknown ones.
    """
    letters = list(character)
    taken = character.lower() == UNKNOWN
    for place, letter in enumerate(letters):
        at_an_end = place in (0, len(letters) - 1)
        reserved = letter in RESERVED or ord(letter) < 32 or (at_an_end and letter in ". ")
        if reserved or (taken and place == 0):
            letters[place] = f"%{ord(letter):02X}"
    return "".join(letters) or "%"


def copy_once(image: Path, folder: Path) -> None:
    """Copies an image into a folder; appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        target = folder / (image.name if number == 1 else f"{image.stem} ({number}){image.suffix}")
        if not target.exists():
            break
        if filecmp.cmp(image, target, shallow=False):
            return
    with replacing(target) as fresh:
        shutil.copy2(image, fresh)
