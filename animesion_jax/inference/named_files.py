"""Files that are named after an image: copies, overlays and text files."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from animesion_jax.errors import InputError

# The name is too long, or has characters that the file system does not allow.
REFUSED_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class RefusedName(InputError):
    """A file system refuses the name of one file; the files of other images are not affected."""


@contextlib.contextmanager
def writing(target: Path, flag: str) -> Iterator[None]:
    """Turns errors of writing a file that is named after an image into InputErrors.

    Args:
      target: the file to write.
      flag: the flag that sets another folder, for the message.

    Raises:
      RefusedName: the file system refuses the name.
      InputError: the folder is not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED_NAME:
            raise RefusedName(f"{target} cannot be written: {error.strerror}; shorten or change the name") from error
        if error.errno in NOT_WRITABLE:
            raise InputError(
                f"{target.parent} cannot be written to: {error.strerror}; give another folder: {flag}"
            ) from error
        raise
