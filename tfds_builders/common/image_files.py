"""Checks on the images of a manual folder: where they lie, and that each is whole, RGB and of the right format."""

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

from tfds_builders.common.manual_data import is_id

# How many broken images an error names.
NAMED = 10
# How the fault of an image begins that is whole as far as its header says, but grey, palette, CMYK or with alpha.
NOT_RGB = "not RGB but "

log = logging.getLogger(__name__)


class ImageFile(Protocol):
    """An image's file, by itself or in an archive; a Path is one. `str` of it is what errors and logs call it."""

    def read_bytes(self) -> bytes:
        """Returns the file's bytes; FileNotFoundError if there is none, else OSError if it fails."""


class ImageFolder:
    """A folder with images in the manual folder; both may be symbolic links to anywhere."""

    def __init__(self, manual: Path, name: str):
        self.path = manual / name
        self._roots = tuple(os.path.join(os.path.realpath(folder), "") for folder in (manual, self.path))
        # Images share their folders, whose links need not be followed again for each.
        self._real_folder = functools.cache(os.path.realpath)

    def find(self, relative: str) -> Path:
        """Returns an image's path, its numeric folder as written or with 4 or 3 digits; as written if none exists.

        This takes 20 us an image on a local disk, 10 s for DAF:re.

        Raises:
          ValueError: a symbolic link below the folder leads out of it and of the manual folder.
        """
        as_written = self.path / relative
        path = next(filter(os.path.exists, self._candidates(relative)), as_written)
        real = os.path.join(self._real_folder(os.path.dirname(path)), os.path.basename(path))
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(self._roots):
            raise ValueError(f"{path} is a link out of {self.path}, to {real}; put the file itself there")
        return path

    def _candidates(self, relative: str) -> Iterator[Path]:
        yield self.path / relative
        parent, _, name = relative.rpartition("/")
        if is_id(parent):
            for digits in (4, 3):
                yield self.path / f"{int(parent):0{digits}d}" / name


def image_fault(image: ImageFile, encoding: str = "JPEG") -> str | None:
    """Returns why a file is no good RGB image of Pillow's format `encoding`, or None; it is decoded to the end."""
    try:
        # From memory: of a file Python sets aside what is asked for, and PNG's lengths go to 4 GiB.
        with io.BytesIO(image.read_bytes()) as file, Image.open(file, formats=(encoding,)) as decoded:
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
    """Returns the faults of images by their place in `images`; all are decoded, on every core."""
    with warnings.catch_warnings(), ThreadPool(os.cpu_count()) as pool:
        # Pillow only warns of up to twice its limit; filters hold for all threads.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        faults = pool.imap(functools.partial(image_fault, encoding=encoding), images, chunksize=64)
        checked = tqdm(faults, total=len(images), desc="checking images", unit="img", disable=None)
        return {place: fault for place, fault in enumerate(checked) if fault}


def name_faults(images: Sequence[ImageFile], faults: Mapping[int, str]) -> str:
    """Returns the first ten of `faults`, by place in `images`, for an error or the log."""
    return "; ".join(f"{images[place]} ({fault})" for place, fault in list(faults.items())[:NAMED])


def report_broken(
    images: Sequence[ImageFile], faults: Mapping[int, str], skip: bool, unfit: str = "not JPEG or not RGB"
) -> None:
    """Logs the broken images when `skip` is set, else raises ValueError; both name the count and the first ten.

    `unfit` says what ails those that are neither missing nor broken.
    """
    if not faults:
        return
    named = name_faults(images, faults)
    message = f"{len(faults)} of {len(images)} images are missing, broken, {unfit}: {named}"
    if not skip:
        raise ValueError(f"{message}. Mend them, or leave them out with the config field skip_broken")
    log.warning("left out, as skip_broken says: %s", message)
