"""Checks on the images of a manual folder: each must be inside it, complete, RGB and in the right format."""

import functools
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Protocol

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from animesion_jax.errors import InputError
from animesion_jax.images import without_metadata
from tfds_builders.common.manual_data import is_id

# Broken images named in an error.
MAX_NAMES = 10
# Prefix of the fault of a readable image that is grey, palette, CMYK or with alpha.
NOT_RGB = "not RGB but "

log = logging.getLogger(__name__)


class ImageFile(Protocol):
    """An image file on disk (a Path) or in an archive. Errors and logs name it by its `str`."""

    def read_bytes(self) -> bytes:
        """Returns the bytes; FileNotFoundError for a missing file, OSError for one that cannot be read."""


class ImageFolder:
    """A folder of images within the manual folder; both may be symbolic links."""

    def __init__(self, manual: Path, name: str):
        self.path = manual / name
        self._roots = tuple(os.path.join(os.path.realpath(folder), "") for folder in (manual, self.path))
        # Many images share a folder: resolve its links once.
        self._real_folder = functools.cache(os.path.realpath)

    def find(self, relative: str) -> Path:
        """Returns the path of an image; a numeric folder is tried as written, then with 4 and with 3 digits.

        Takes 20 us an image on a local disk, 10 s for DAF:re.

        Args:
          relative: path below the folder, with forward slashes.

        Returns:
          The first path that exists, else the path as written.

        Raises:
          InputError: a symbolic link below the folder leads out of both it and the manual folder.
        """
        as_written = self.path / relative
        path = next(filter(os.path.exists, self._candidates(relative)), as_written)
        real = os.path.join(self._real_folder(os.path.dirname(path)), os.path.basename(path))
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(self._roots):
            raise InputError(f"{path} is a link out of {self.path}, to {real}; put the file itself there")
        return path

    def _candidates(self, relative: str) -> Iterator[Path]:
        yield self.path / relative
        parent, _, name = relative.rpartition("/")
        if is_id(parent):
            for digits in (4, 3):
                yield self.path / f"{int(parent):0{digits}d}" / name


def image_fault(image: ImageFile, encoding: str = "JPEG") -> str | None:
    """Returns the fault of an image file, or None for a complete RGB image; decodes all of it.

    Args:
      image: the file.
      encoding: the required format, by Pillow's name.
    """
    try:
        # Read from memory: a damaged PNG can ask for 4 GiB, which Python would allocate for a file.
        content = io.BytesIO(image.read_bytes())
        with Image.open(without_metadata(content), formats=(encoding,)) as decoded:
            if decoded.mode != "RGB":
                return NOT_RGB + decoded.mode
            decoded.load()
    except FileNotFoundError:
        return "missing"
    except UnidentifiedImageError:
        return f"not {encoding}"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit"
    except (OSError, ValueError, SyntaxError) as error:
        return f"broken: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return None


def broken_images(images: Sequence[ImageFile], encoding: str = "JPEG") -> dict[int, str]:
    """Returns faults by index into `images`; decodes all images on every core, with a progress bar."""
    with warnings.catch_warnings(), ThreadPool(os.cpu_count()) as pool:
        # Pillow only warns up to twice its limit. Filters apply to all threads.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        faults = pool.imap(functools.partial(image_fault, encoding=encoding), images, chunksize=64)
        checked = tqdm(faults, total=len(images), desc="checking images", unit="img", disable=None)
        return {index: fault for index, fault in enumerate(checked) if fault}


def name_faults(images: Sequence[ImageFile], faults: Mapping[int, str]) -> str:
    """Returns the first ten faults as text; `faults` is by index into `images`."""
    return "; ".join(f"{images[index]} ({fault})" for index, fault in list(faults.items())[:MAX_NAMES])


def report_broken(
    images: Sequence[ImageFile], faults: Mapping[int, str], skip: bool, unfit: str = "not JPEG or not RGB"
) -> None:
    """Logs broken images with `skip`, else raises InputError; both give the number and the first ten names.

    Args:
      images: all images.
      faults: by index into `images`.
      skip: the config's `skip_broken`.
      unfit: how the message calls faults other than missing and broken.
    """
    if not faults:
        return
    named = name_faults(images, faults)
    message = f"{len(faults)} of {len(images)} images are missing, broken, {unfit}: {named}"
    if not skip:
        raise InputError(
            f"{message}. Repair them, or leave them out: `animesion build --skip_broken`, `tfds build` with skip_broken"
        )
    log.warning("left out because of skip_broken: %s", message)
