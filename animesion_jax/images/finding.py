"""The images in files and folders that a user names."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from animesion_jax.errors import InputError, escape
from animesion_jax.images.reading import FORMATS

# Ending of the overlays that `explain` writes beside images. `find_images` skips them in folders.
EXPLAINED = ".explained.png"

log = logging.getLogger(__name__)


def is_image_name(name: str) -> bool:
    """Returns whether a file name has the ending of one of `FORMATS` and is not an overlay of `explain`."""
    Image.init()
    suffix = os.path.splitext(name)[1].lower()
    return Image.EXTENSION.get(suffix) in FORMATS and not name.endswith(EXPLAINED)


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the given files and, sorted, the images anywhere below the given folders.

    In folders it takes the names that `is_image_name` accepts, and logs a warning for each that it cannot read.

    Raises:
      InputError: a folder without images.
    """

    def warn(error: OSError) -> None:
        log.warning("%s is left out: %s; check its permissions", escape(str(error.filename)), error.strerror)

    found = []
    for path in map(os.path.expanduser, paths):
        if not os.path.isdir(path):
            found.append(Path(path))
            continue
        walk = os.walk(path, onerror=warn)
        named = (Path(parent, name) for parent, _, names in walk for name in names if is_image_name(name))
        # Keep broken links: their disk may be missing, and reading them reports it.
        inside = sorted(file for file in named if file.is_file() or file.is_symlink())
        if not inside:
            raise InputError(f"folder {path} holds no image; allowed: files or folders of {', '.join(FORMATS)}")
        found += inside
    return found
