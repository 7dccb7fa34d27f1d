"""Copies images into a folder per character."""

import filecmp
import itertools
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from animesion_jax.files import local_path
from animesion_jax.inference.named_files import RefusedName, create_if_absent, writing
from animesion_jax.inference.rows import UNKNOWN, Row, characters, has_heads

# Characters that some operating system forbids in file names, and "%", which escapes them.
RESERVED = '%/\\:*?"<>|'


def copy_into_folders(rows: Iterable[Row], folder: str) -> Iterator[Row]:
    """Copies the image of each row to FOLDER/CHARACTER/NAME and then yields the row.

    A whole picture goes to every character on it. Images that show unknown characters only go to FOLDER/unknown;
    pictures without a head and unreadable files are not copied. A different image of the same
    name becomes "NAME (2)". An image that was copied before is not copied again. If the name of a copy is too long, the
    row becomes {"path", "error"}.
    """
    target = local_path(folder)
    for row in rows:
        if "error" not in row and has_heads(row):
            names = [folder_name(character) for character in characters(row)] or [UNKNOWN]
            try:
                for name in names:
                    copy_once(Path(row["path"]), target / name)
            except RefusedName as error:
                row = {"path": row["path"], "error": str(error)}
        yield row


def folder_name(character: str) -> str:
    """Returns the name of a character's folder, which is different for each character.

    Writes reserved and control characters, and dots and spaces at either end, as %XX. A character called "unknown" gets
    its first letter escaped.
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
    """Copies an image atomically into a folder, unless the same image is there. Several processes may copy at once.

    Raises:
      RefusedName: the file system refuses the name of the copy or of the folder.
      InputError: the folder is not writable.
    """
    for number in itertools.count(1):
        target = folder / (image.name if number == 1 else f"{image.stem} ({number}){image.suffix}")
        with writing(target, "--copy_to=FOLDER"):
            if create_if_absent(target, partial(shutil.copy2, image)):
                return
            if target.is_file() and filecmp.cmp(image, target, shallow=False):
                return
