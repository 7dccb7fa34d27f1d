"""Finds the images in files and folders, by the same rules for every command."""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from animesion_jax.errors import InputError, escape, install
from animesion_jax.files import expand_home
from animesion_jax.images.reading import HEIF, HEIF_ENDINGS, formats

# Ending of the overlays that `explain` writes beside images.
EXPLAINED = ".explained.png"
# Names, in lower case, of the files and folders that operating systems and network storage create. Hidden names are
# left out too: `._a.png`, `.ipynb_checkpoints`, `.Trash-1000`, `.@__thumb`.
SYSTEM_NAMES = frozenset(
    (
        "@eadir", "@tmp", "#recycle", "#snapshot",  # Synology
        "@recycle", "@recently-snapshot", "@transcode",  # QNAP
        "~snapshot",  # NetApp
        "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
        "$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini",  # Windows
        "lost+found",  # Linux
    )
)  # fmt: skip
# Kinds of files that are left out, besides those named by their ending.
SYSTEM = "hidden or system"
LINKED = "linked folders"
MAPS = "overlays of explain"
NO_ENDING = "without an ending"
NO_FILE = "pipes, sockets and devices"
# Most kinds that a message names; the others are counted.
MAX_KINDS = 12

log = logging.getLogger(__name__)


def is_system_name(name: str) -> bool:
    """Returns whether the name of a file or folder is hidden or one of `SYSTEM_NAMES`."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image_name(name: str) -> bool:
    """Returns whether a file name has the ending of one of `formats()` and is not an overlay of `explain`."""
    Image.init()
    allowed = formats()
    return Image.EXTENSION.get(_ending(name)) in allowed and not name.endswith(EXPLAINED)


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


class Level(NamedTuple):
    """The direct content of a folder, sorted by name.

    Attributes:
      folders: subfolders to search for images.
      links: links to folders.
      images: files with the name of an image, including broken links, whose disk may be missing.
    """

    folders: list[Path]
    links: list[Path]
    images: list[Path]


def read_level(folder: Path, left_out: Counter[str]) -> Level:
    """Returns the direct content of a folder, and counts other entries in `left_out`, by kind.

    Raises:
      OSError: the folder cannot be read.
    """
    level = Level([], [], [])
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_system_name(entry.name):
                left_out[SYSTEM] += 1
            elif _is_folder(entry):
                (level.links if entry.is_symlink() else level.folders).append(folder / entry.name)
            elif kind := _kind_left_out(entry):
                left_out[kind] += 1
            else:
                level.images.append(folder / entry.name)
    return level


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _kind_left_out(entry: os.DirEntry) -> str:
    """Returns the kind of a file that is left out; "" for images."""
    if entry.name.endswith(EXPLAINED):
        return MAPS
    if is_image_name(entry.name):
        return "" if entry.is_symlink() or entry.is_file() else NO_FILE
    # "Vol. 3 (final)" has no ending.
    ending = _ending(entry.name)
    return ending if re.fullmatch(r"\.\w{1,10}", ending) else NO_ENDING


def walk(folder: Path, left_out: Counter[str], on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yields the images at any depth below a folder; follows no links to folders, but counts them in `left_out`."""
    waiting = [folder]
    while waiting:
        try:
            level = read_level(waiting.pop(), left_out)
        except OSError as error:
            on_error(error)
            continue
        left_out.update([LINKED] * len(level.links))
        waiting += level.folders
        yield from level.images


def describe(left_out: Counter[str]) -> str:
    """Returns kinds with their numbers, the most frequent first: ".txt 30, .heic 3, hidden or system 1"."""
    ranked = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{kind} {count}" for kind, count in ranked[:MAX_KINDS]]
    if others := ranked[MAX_KINDS:]:
        texts.append(f"{len(others)} other kinds {sum(count for _, count in others)}")
    hint = ""
    if HEIF not in formats() and not left_out.keys().isdisjoint(HEIF_ENDINGS):
        hint = f"; to read HEIC: {install('heic')}"
    return ", ".join(texts) + hint


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the given files and, sorted, the images anywhere below the given folders.

    Logs one line that counts the files left out in folders, and a warning for each folder that it cannot read.

    Raises:
      InputError: a folder without images.
    """

    def warn(error: OSError) -> None:
        log.warning("%s is left out: %s; check its permissions", escape(str(error.filename)), error.strerror)

    found, left_out = [], Counter()
    for path in map(expand_home, paths):
        if not os.path.isdir(path):
            found.append(Path(path))
            continue
        others: Counter[str] = Counter()
        inside = sorted(walk(Path(path), others, warn))
        if not inside:
            holds = f" (left out: {describe(others)})" if others else ""
            raise InputError(f"folder {path} has no images{holds}; allowed: files or folders of {', '.join(formats())}")
        found += inside
        left_out += others
    if left_out:
        log.info("left out in folders: %s", describe(left_out))
    return found
