"""Image files that are given as bytes or as binary file objects."""

import contextlib
import io
from typing import BinaryIO

from animesion_jax.errors import InputError

# Largest content; no image of an allowed size needs more, even without compression.
MAX_BYTES = 2**30
# Bytes per read of a file object.
PART = 2**20

Content = bytes | bytearray | memoryview | BinaryIO


def is_content(source: object) -> bool:
    """Returns whether a value is the content of a file: bytes, or an object with `read`."""
    return isinstance(source, bytes | bytearray | memoryview) or hasattr(source, "read")


def read_content(source: Content) -> io.BytesIO:
    """Returns the content as a stream. Reads a file object from its start, or from its position if it cannot seek.

    Raises:
      InputError: the content is empty, text, or larger than `MAX_BYTES`.
    """
    content = _read_all(source) if hasattr(source, "read") else io.BytesIO(bytes(source))
    if not content.getbuffer().nbytes:
        raise InputError("the file is empty; save or download it again")
    content.seek(0)
    return content


def _read_all(file: BinaryIO) -> io.BytesIO:
    # Some objects cannot seek, such as responses of urllib.
    with contextlib.suppress(AttributeError, OSError):
        file.seek(0)
    content = io.BytesIO()
    try:
        while part := file.read(PART):
            content.write(part)
            if content.tell() > MAX_BYTES:
                raise InputError(f"too large: over {MAX_BYTES} bytes; scale it down, or crop it to the face")
    except (UnicodeDecodeError, TypeError) as error:
        raise InputError("the file object does not return bytes; open it with mode 'rb'") from error
    return content
