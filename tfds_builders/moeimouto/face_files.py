"""Kaggle's image tree of moeimouto, `moeimouto-faces/NNN_name/FILE.png`, unpacked or read from its zip."""

import logging
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from animesion_jax.errors import InputError
from animesion_jax.images import is_system_name
from tfds_builders.common.image_files import ImageFolder
from tfds_builders.common.manual_data import excerpt, naming, relative_path

TREE = "moeimouto-faces"
# The tree's own zip, and the names that Kaggle's command and web page give the whole archive.
ZIPS = (f"{TREE}.zip", "tagged-anime-illustrations.zip", "archive.zip")
# Largest unpacked size of an image; faces have about 50 kB.
MAX_BYTES = 16 * 2**20
# Compression methods of which Python inflates no more than requested.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SOURCE = (
    f"expected: {TREE}/ with a folder NNN_name per character, or {' or '.join(ZIPS)}, from "
    "kaggle.com/datasets/mylesoneill/tagged-anime-illustrations"
)

log = logging.getLogger(__name__)


def find_faces(manual: Path) -> "Faces":
    """Returns the faces of the manual folder; prefers the unpacked tree to a zip.

    Raises:
      InputError: neither exists, not a zip file, a member name is unsafe or repeated, or the tree holds no image.
    """
    archives = [manual / name for name in ZIPS if (manual / name).exists()]
    if (manual / TREE).is_dir():
        source, faces = manual / TREE, FolderFaces(manual)
    elif archives:
        source, faces = archives[0], ZipFaces(archives[0])
    else:
        raise InputError(f"{manual} lacks {TREE}/ and {TREE}.zip; {SOURCE}")
    unread = [path.name for path in archives if path != source]
    if unread:
        log.warning("reading %s, not %s beside it", source, ", ".join(unread))
    if not faces.paths:
        raise InputError(f"{source} holds no NNN_name/FILE.png; {SOURCE}")
    return faces


def is_face(folder: str, name: str) -> bool:
    """Returns whether a file is a face by its names: a PNG, no system file, in a folder NNN_name."""
    is_png = name.lower().endswith(".png") and not is_system_name(name)
    return is_png and bool(re.fullmatch(r"[0-9]{3}_[^/]+", folder))


class FolderFaces:
    """The unpacked tree, possibly within a folder of the same name, as some programs unpack a zip.

    Attributes:
      paths: NNN_name/FILE.png of all faces, sorted.
    """

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
        """Returns the path of an image; ValueError if a link leads out of both the tree and the manual folder."""
        return self._images.find(path)


@dataclass(frozen=True)
class ZippedFace:
    """An image in a zip; `info` is None for a missing member."""

    archive: zipfile.ZipFile
    path: str
    info: zipfile.ZipInfo | None

    def __str__(self) -> str:
        return f"{self.archive.filename}/{self.path}"

    def read_bytes(self) -> bytes:
        """Returns the bytes of the image.

        Raises:
          FileNotFoundError: the zip has no such member.
          OSError: the member is too large, encrypted, compressed by another method, or its checksum differs.
        """
        if self.info is None:
            raise FileNotFoundError(str(self))
        if self.info.file_size > MAX_BYTES:
            raise OSError(f"{self.info.file_size} bytes; allowed: {MAX_BYTES}")
        if self.info.compress_type not in METHODS:
            raise OSError(f"compressed by method {self.info.compress_type}; zip it again with deflate")
        try:
            with self.archive.open(self.info) as file:
                # A member may unpack to more than its header says. Read no more; the checksum then fails.
                return file.read(self.info.file_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise OSError(f"damaged in the zip: {error}") from None


class ZipFaces:
    """The tree in a zip, with or without enclosing folders of its name; `paths` as in `FolderFaces`."""

    def __init__(self, path: Path):
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
            raise InputError(f"{path} is not a complete zip file: {error}; download it again") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            with naming(str(path), info.filename):
                face = re.sub(rf"^({TREE}/)*", "", relative_path(info.filename.rstrip("/")))
            folder, _, name = face.rpartition("/")
            if not is_face(folder, name) or info.is_dir():
                continue
            if face in self._members:
                raise InputError(f"{path} holds {excerpt(face)} twice; {SOURCE}")
            self._members[face] = info
        self.paths = sorted(self._members, key=lambda face: face.split("/"))

    def find(self, path: str) -> ZippedFace:
        """Returns the image at a path, existing or not."""
        return ZippedFace(self._archive, path, self._members.get(path))


Faces = FolderFaces | ZipFaces
