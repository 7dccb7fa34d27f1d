"""Image files to square uint8 arrays, as training sees them; whatever a file holds, a fault is an InputError."""

import contextlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from animesion_jax.errors import InputError, escape, first_line

# What is read, by Pillow's names. Pillow knows 30 more formats; it runs Ghostscript on one of them (EPS) and unpacks
# others without bounds (FITS).
log = logging.getLogger(__name__)

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# JPEG's own limit. A picture one pixel wide and millions high would be resized by way of (millions, size) floats.
MAX_SIDE = 2**16 - 1
# An image up to 4096 x 4096 is read however well it is compressed, a larger one (Pillow's limit is 89 megapixels) if
# its file has a byte for so many pixels: photographs and drawings have one for 2 to 30.
FREE_PIXELS = 2**24
PIXELS_PER_BYTE = 100
# What explain appends to an image's name; in folders, images of such names are its own and not looked at.
EXPLAINED = ".explained.png"

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@contextlib.contextmanager
def _naming_faults() -> Iterator[None]:
    """Turns what Pillow raises within into an InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = first_line(error).partition(",")[0]
        raise InputError(f"too large: {pixels}; scale it down, or crop it to the face") from error
    except UnidentifiedImageError as error:
        # Pillow names the object that it read from instead of saying more.
        raise InputError(
            f"not a readable image: cannot identify its format; allowed: a whole file of {', '.join(FORMATS)}; "
            "save or download it again"
        ) from error
    except Exception as error:  # Pillow raises a dozen types on damaged files, all of which mean the same
        if isinstance(error, OSError) and error.errno:  # the system's; Pillow's own have no number
            raise InputError(f"cannot be read: {error.strerror}; check its permissions and its disk") from error
        raise InputError(
            f"not a readable image: {first_line(error)}; allowed: a whole file of {', '.join(FORMATS)}; "
            "save or download it again"
        ) from error


def is_image_name(name: str) -> bool:
    """Returns whether a file in a folder is an image by its name: one of `FORMATS`, and not written by explain."""
    Image.init()
    suffix = os.path.splitext(name)[1].lower()
    return Image.EXTENSION.get(suffix) in FORMATS and not name.endswith(EXPLAINED)


def read_image(path: str | Path) -> Image.Image:
    """Returns the RGB image of a file; of an animation the first frame.

    The pixels are those that training would see: as stored, whatever EXIF says of their orientation, as TensorFlow
    ignores it too. What is no RGB becomes so as `to_rgb` says. Takes 4 (JPEG, PNG) to 16 (WebP) bytes
    of memory a pixel.

    Raises:
      InputError: no such file, no whole image of `FORMATS`, too many pixels, or of a mode that is not read.
    """
    size = _size_of_file(path)
    with _naming_faults(), BoundedFile(path, size) as file, Image.open(file, formats=FORMATS) as image:
        _check_size(*image.size, size)
        image.load()
        return to_rgb(image)


class BoundedFile(io.BufferedReader):
    """A file of which no more is asked for than its size: Python sets aside what is, and PNG's lengths go to 4 GiB."""

    def __init__(self, path: str | Path, size: int):
        super().__init__(io.FileIO(path))
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        """Returns the next `size` bytes, or what is left."""
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def _size_of_file(path: str | Path) -> int:
    """Returns a file's bytes; InputError if it is none: opening a pipe would wait for whoever writes into it."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise InputError(f"no such image: {path}; allowed: files and folders that exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"no image can be at {path}: {first_line(error)}; give another path") from error
    kinds = [kind for test, kind in KINDS.items() if test(status.st_mode)]
    if kinds:
        raise InputError(f"not an image but {kinds[0]}; allowed: a file of {', '.join(FORMATS)}")
    if not status.st_size:
        raise InputError("the file is empty; save or download it again")
    return status.st_size


def _check_size(width: int, height: int, size: int) -> None:
    """Raises InputError for more pixels than a file of so many bytes may have, before any is decoded."""
    if max(width, height) > MAX_SIDE:
        raise InputError(f"too large: {width} x {height} pixels; allowed: sides up to {MAX_SIDE}; crop it to the face")
    if width * height > FREE_PIXELS + PIXELS_PER_BYTE * size:
        raise InputError(
            f"too large: {width} x {height} pixels in a file of {size} bytes; allowed: {FREE_PIXELS} pixels and "
            f"{PIXELS_PER_BYTE} more for each byte; scale it down, or crop it to the face"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns the 8-bit RGB image of one of any mode.

    What is transparent lies on white, as on a page. 16-bit grey is scaled by 255 / 65535 and rounded; 32-bit integers
    are taken for it. Everything else is converted by Pillow: palettes, grey, CMYK.

    Raises:
      InputError: floats, or integers that are not 0 to 65535.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise InputError("its pixels are floats, whose range nothing says; allowed: 8 or 16 bits; save it with 8 bits")
    if image.mode.startswith("I"):
        return _from_16_bits(np.asarray(image))
    if image.has_transparency_data:
        page = Image.new("RGB", image.size, "white")
        overlay = image if image.mode == "RGBA" else image.convert("RGBA")
        page.paste(overlay, mask=overlay)
        return page
    return image.convert("RGB")


def _from_16_bits(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise InputError(
            f"its pixels are {values.min()} to {values.max()}; allowed: 8 bits, or 16 bits, 0 to 65535; save it with "
            "8 bits"
        )
    scaled = values.astype(np.uint32)  # in place from here: of large images every copy counts
    scaled += 128
    scaled //= 257
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def to_image(image: str | Path | Image.Image | np.ndarray) -> Image.Image:
    """Returns the RGB image of a path, a Pillow image or an (H, W, 3) uint8 array; InputError if there is none."""
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        shape = (image.height, image.width)
    else:
        image = np.asarray(image)
        shape = image.shape
        if image.ndim != 3 or shape[-1] != 3 or image.dtype != np.uint8:
            raise InputError(f"an array image is (H, W, 3) uint8; this one is {shape} {image.dtype}")
    if 0 in shape:
        raise InputError(f"an image of {shape} has no pixel; allowed: at least one")
    with _naming_faults():
        if isinstance(image, np.ndarray):
            return Image.fromarray(image)
        image.load()
        return to_rgb(image)


def _tell_unseen(error: OSError) -> None:
    log.warning("%s is left out: %s; mend its permissions", escape(str(error.filename)), error.strerror)


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files given and, sorted, the image files anywhere below the folders given.

    Files that were named are kept whatever they are; in folders only names of `images.FORMATS` count, and
    none that explain has written. A folder below that cannot be looked into is told.
    """
    found = []
    for name in paths:
        path = os.path.expanduser(name)
        if os.path.isdir(path):
            inside = []
            for parent, _, names in os.walk(path, onerror=_tell_unseen):
                named = [Path(parent, name) for name in names if is_image_name(name)]
                # A link to nowhere may be one to a disk that is not there: it is told when it is read.
                inside += [file for file in named if file.is_file() or file.is_symlink()]
            if not inside:
                raise InputError(f"folder {path} holds no image; allowed: files or folders of {', '.join(FORMATS)}")
            found += sorted(inside)
        else:
            found.append(Path(path))
    return found
