"""Kaggle's tree of moeimouto, `moeimouto-faces/NNN_name/FILE.png`: unpacked, or read from its zip without unpacking."""

import logging
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tfds_builders.common.image_files import ImageFile, ImageFolder
from tfds_builders.common.manual_data import naming, relative_path

TREE = "moeimouto-faces"
# By the file's own name, and as Kaggle's command and its web page name the archive of the whole data set.
ZIPS = (f"{TREE}.zip", "tagged-anime-illustrations.zip", "archive.zip")
# Faces have about 50 kB; what a zip says to unpack to more is no face.
MAX_BYTES = 16 * 2**20
# How Python can inflate no more of a member than is asked for.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SOURCE = (
    f"expected: {TREE}/ with a folder NNN_name per character, or {' or '.join(ZIPS)}, from "
    "kaggle.com/datasets/mylesoneill/tagged-anime-illustrations"
)

log = logging.getLogger(__name__)


class Faces(Protocol):
    """The images of the tree; `paths` are theirs, NNN_name/FILE.png, in order of their names."""

    paths: list[str]

    def find(self, path: str) -> ImageFile:
        """Returns the image at a path, whether it exists or not; ValueError if it lies elsewhere."""


def find_faces(manual: Path) -> Faces:
    """Returns the faces of the manual folder; the unpacked tree goes before a zip.

    Raises:
      FileNotFoundError: neither is there.
      ValueError: a zip that is none or has a hostile or a repeated name; no image in the tree.
    """
    archives = [manual / name for name in ZIPS if (manual / name).exists()]
    if (manual / TREE).is_dir():
        source, faces = manual / TREE, FolderFaces(manual)
    elif archives:
        source, faces = archives[0], ZipFaces(archives[0])
    else:
        raise FileNotFoundError(f"{manual} lacks {TREE}/ and {TREE}.zip; {SOURCE}")
    unread = [path.name for path in archives if path != source]
    if unread:
        log.warning("reading %s, not %s beside it", source, ", ".join(unread))
    if not faces.paths:
        raise ValueError(f"{source} holds no NNN_name/FILE.png; {SOURCE}")
    return faces


def is_face(folder: str, name: str) -> bool:
    """Returns whether a file of a folder is an image by its name: color.csv is none, nor a file that is hidden."""
    return bool(re.fullmatch(r"[0-9]{3}_[^/]+", folder)) and name.lower().endswith(".png") and not name.startswith(".")


class FolderFaces:
    """The unpacked tree, which may hold another of its name: some programs unpack a zip to a folder named after it."""

    def __init__(self, manual: Path):
        nested = os.path.join(TREE, TREE)
        self._images = ImageFolder(manual, nested if (manual / nested).is_dir() else TREE)
        folders = sorted(path.name for path in self._images.path.iterdir() if path.is_dir())
        self.paths = [
            f"{folder}/{name}"
            for folder in folders
            for name in sorted(os.listdir(self._images.path / folder))
            if is_face(folder, name)
        ]

    def find(self, path: str) -> Path:
        """Returns the image's path; ValueError if a link leads out of the tree and of the manual folder."""
        return self._images.find(path)


@dataclass(frozen=True)
class ZippedFace:
    """An image in a zip, whose name there is `info`'s; without `info`, one that the zip lacks."""

    archive: zipfile.ZipFile
    path: str
    info: zipfile.ZipInfo | None

    def __str__(self) -> str:
        return f"{self.archive.filename}/{self.path}"

    def read_bytes(self) -> bytes:
        """Returns the image's bytes.

        Raises:
          FileNotFoundError: the zip lacks it.
          OSError: it is too large, damaged (by its checksum), encrypted or compressed in an unusual way.
        """
        if self.info is None:
            raise FileNotFoundError(str(self))
        if self.info.file_size > MAX_BYTES:
            raise OSError(f"{self.info.file_size} bytes; allowed: {MAX_BYTES}")
        if self.info.compress_type not in METHODS:
            raise OSError(
                f"compressed by method {self.info.compress_type}; zip it again with the ordinary one, deflate"
            )
        try:
            with self.archive.open(self.info) as file:
                # What a member unpacks to may be more than it says: ask for no more, the checksum tells.
                return file.read(self.info.file_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise OSError(f"damaged in the zip: {error}") from None


class ZipFaces:
    """The tree in a zip, below folders of its name or none, beside other files or not."""

    def __init__(self, path: Path):
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
            raise ValueError(f"{path} is no whole zip: {error}; download it again") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for face, info in self._faces():
            if face in self._members:
                raise ValueError(f"{path} holds {face} twice; {SOURCE}")
            self._members[face] = info
        self.paths = sorted(self._members, key=lambda face: face.split("/"))

    def _faces(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        for info in self._archive.infolist():
            with naming(f"{self._archive.filename}", info.filename):
                path = relative_path(info.filename.rstrip("/"))
            folder, _, name = re.sub(rf"^({TREE}/)*", "", path).rpartition("/")
            if is_face(folder, name) and not info.is_dir():
                yield f"{folder}/{name}", info

    def find(self, path: str) -> ZippedFace:
        """Returns the image, whether the zip has it or not."""
        return ZippedFace(self._archive, path, self._members.get(path))
