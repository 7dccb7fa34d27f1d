"""Checks on the images of a manual folder: where they lie, and that each is a whole RGB JPEG."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

# How many broken images an error names.
NAMED = 10

log = logging.getLogger(__name__)


class ImageFolder:
    """A folder with images in the manual folder; both may be symbolic links to anywhere."""

    def __init__(self, manual: Path, name: str):
        self.path = manual / name
        self._roots = tuple(os.path.join(os.path.realpath(folder), "") for folder in (manual, self.path))

    def find(self, relative: str) -> Path:
        """Returns an image's path, its numeric folder as written or with 4 or 3 digits; as written if none exists.

        Following links costs one lstat per path component: 40 us an image on a local disk, 20 s for DAF:re.

        Raises:
          ValueError: a symbolic link below the folder leads out of it and of the manual folder.
        """
        as_written = self.path / relative
        path = next(filter(os.path.exists, self._candidates(relative)), as_written)
        real = os.path.realpath(path)
        if not real.startswith(self._roots):
            raise ValueError(f"{path} is a link out of {self.path}, to {real}; put the file itself there")
        return path

    def _candidates(self, relative: str) -> Iterator[Path]:
        yield self.path / relative
        parent, _, name = relative.rpartition("/")
        if parent.isdecimal():
            for digits in (4, 3):
                yield self.path / f"{int(parent):0{digits}d}" / name


def image_fault(path: Path) -> str | None:
    """Returns why a file is no good RGB JPEG, or None; the file is decoded to the end."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.mode != "RGB":
                return f"not RGB but {image.mode}"
            image.load()
    except FileNotFoundError:
        return "missing"
    except UnidentifiedImageError:
        return "not JPEG"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels, Pillow's limit"
    except (OSError, ValueError, SyntaxError) as error:
        return f"broken: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return None


def broken_images(paths: Sequence[Path]) -> dict[int, str]:
    """Returns the faults of images by their place in `paths`; all are decoded, on every core."""
    with warnings.catch_warnings(), ThreadPool(os.cpu_count()) as pool:
        # Pillow only warns of up to twice its limit; filters hold for all threads.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        faults = pool.imap(image_fault, paths, chunksize=64)
        checked = tqdm(faults, total=len(paths), desc="checking images", unit="img", disable=None)
        return {place: fault for place, fault in enumerate(checked) if fault}


def report_broken(paths: Sequence[Path], faults: Mapping[int, str], skip: bool) -> None:
    """Logs the broken images when `skip` is set, else raises ValueError; both name the count and the first ten."""
    if not faults:
        return
    named = "; ".join(f"{paths[place]} ({fault})" for place, fault in list(faults.items())[:NAMED])
    message = f"{len(faults)} of {len(paths)} images are missing, broken, not JPEG or not RGB: {named}"
    if not skip:
        raise ValueError(f"{message}. Mend them, or leave them out with the config field skip_broken")
    log.warning("left out, as skip_broken says: %s", message)
