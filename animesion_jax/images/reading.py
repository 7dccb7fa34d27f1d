"""Safe reading of images: formats, limits, conversion to RGB. Every error about an image is an InputError."""

import contextlib
import functools
import io
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from animesion_jax.errors import InputError, first_line, install
from animesion_jax.images.content import Content, is_content, read_content
from animesion_jax.images.streams import BoundedFile, without_metadata

# Formats by Pillow's names. Pillow reads 30 more; it runs Ghostscript on EPS and unpacks FITS without limits.
PILLOW_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# HEIC, the format of phones' photos, needs the package pillow-heif. Bytes 4 to 12 of its files are one of the brands.
HEIF = "HEIF"
HEIF_ENDINGS = frozenset((".heic", ".heics", ".heif", ".heifs", ".hif"))
HEIF_BRANDS = frozenset((b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis", b"ftyphevc", b"ftyphevx"))
# JPEG's own limit. Resizing an image that is one pixel wide and millions high would take (millions, size) floats.
MAX_SIDE = 2**16 - 1
# Limits against decompression bombs. FREE_PIXELS (4096 x 4096) are allowed for a file of any size, and PIXELS_PER_BYTE
# more for each byte of it. Photographs and drawings have 2 to 30 pixels per byte. Pillow's own limit is 89 megapixels.
FREE_PIXELS = 2**24
PIXELS_PER_BYTE = 100


@functools.cache
def formats() -> tuple[str, ...]:
    """Returns the allowed formats by Pillow's names; HEIF only if pillow-heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        return PILLOW_FORMATS
    pillow_heif.register_heif_opener()
    return (*PILLOW_FORMATS, HEIF)


def _allowed() -> str:
    return f"a whole file of {', '.join(formats())}"


@contextlib.contextmanager
def _pillow_errors() -> Iterator[None]:
    """Turns the errors that Pillow raises into InputErrors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = first_line(error).partition(",")[0]
        raise InputError(f"too large: {pixels}; scale it down, or crop it to the face") from error
    except Exception as error:  # Pillow raises a dozen types on damaged files
        if isinstance(error, OSError) and error.errno:  # from the operating system; Pillow's own have no errno
            raise InputError(f"cannot be read: {error.strerror}; check its permissions and its disk") from error
        # Pillow's message about an unknown format is the repr of the file object.
        unknown = isinstance(error, UnidentifiedImageError)
        fault = "cannot identify its format" if unknown else first_line(error)
        raise InputError(f"not a readable image: {fault}; allowed: {_allowed()}; save or download it again") from error


def read_image(source: str | Path | Content) -> Image.Image:
    """Returns the RGB image in a file, given its path or its content; the first frame of an animation.

    Ignores the orientation in EXIF, like TensorFlow in training. Converts other modes with `to_rgb`. Takes 4 bytes of
    memory per pixel for JPEG and PNG, 16 for WebP.

    Raises:
      InputError: no such file, not a whole image of `formats()`, too many pixels, or an unsupported mode.
    """
    with _pillow_errors(), _open(source) as (file, size):
        _check_heif(file)
        with Image.open(without_metadata(file), formats=formats()) as image:
            _check_size(*image.size, size)
            image.load()
            return to_rgb(image)


@contextlib.contextmanager
def _open(source: str | Path | Content) -> Iterator[tuple[BinaryIO, int]]:
    """Yields a file, and its size in bytes."""
    if is_content(source):
        content = read_content(source)
        yield content, content.getbuffer().nbytes
    else:
        size = _size_of_file(source)
        with BoundedFile(io.FileIO(source), size) as file:
            yield file, size


def _size_of_file(path: str | Path) -> int:
    """Returns a file's size in bytes; InputError for pipes and the like, which would block or never end."""
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise InputError(f"no such image: {path}; allowed: files and folders that exist") from error
    except (OSError, ValueError) as error:
        raise InputError(f"no image can be at {path}: {first_line(error)}; give another path") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise InputError(f"not an image but {kind}; allowed: {_allowed()}")
    if not status.st_size:
        raise InputError("the file is empty; save or download it again")
    return status.st_size


def _check_heif(file: BinaryIO) -> None:
    """Raises InputError for a HEIC file that needs a missing package."""
    if HEIF not in formats() and file.read(12)[4:] in HEIF_BRANDS:
        raise InputError(f"HEIC files need pillow-heif; install it: {install('heic')}, or save as JPEG or PNG")


def _check_size(width: int, height: int, size: int) -> None:
    """Raises InputError if an image has too many pixels for a file of `size` bytes; called before decoding."""
    if max(width, height) > MAX_SIDE:
        raise InputError(f"too large: {width} x {height} pixels; allowed: sides up to {MAX_SIDE}; crop it to the face")
    if width * height > FREE_PIXELS + PIXELS_PER_BYTE * size:
        raise InputError(
            f"too large: {width} x {height} pixels in a file of {size} bytes; allowed: {FREE_PIXELS} pixels and "
            f"{PIXELS_PER_BYTE} more for each byte; scale it down, or crop it to the face"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an image of any mode as 8-bit RGB.

    Pastes transparent images onto white. Scales 16-bit and 32-bit grey from 0..65535 to 0..255 and rounds. Pillow
    converts the other modes: palettes, grey, CMYK.

    Raises:
      InputError: pixels are floats, or integers outside 0 to 65535.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise InputError("its pixels are floats of unknown range; allowed: 8 or 16 bits; save it with 8 bits")
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
    scaled = values.astype(np.uint32)  # in place from here on, to save memory
    scaled += 128
    scaled //= 257
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def to_image(image: str | Path | Content | Image.Image | np.ndarray) -> Image.Image:
    """Returns a file's path or content, a Pillow image or an (H, W, 3) uint8 array as an RGB image.

    Raises:
      InputError: it cannot be read, or has another shape or type.
    """
    if isinstance(image, str | Path) or is_content(image):
        return read_image(image)
    if not isinstance(image, Image.Image):
        pixels = np.asarray(image)
        if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
            raise InputError(f"an array image is (H, W, 3) uint8; this one is {pixels.shape} {pixels.dtype}")
        image = Image.fromarray(pixels)
    if 0 in image.size:
        raise InputError(f"an image of {image.width} x {image.height} has no pixel; allowed: at least one")
    with _pillow_errors():
        image.load()
        return to_rgb(image)
