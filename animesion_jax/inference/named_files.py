"""Files that are named after an image: copies, overlays and text files."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from animesion_jax.errors import InputError
from animesion_jax.files import creating

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


def create_if_absent(target: Path, write: Callable[[Path], object]) -> bool:
    """Creates a file and its folder unless the file exists; returns whether it did. Several processes may call it.

    Args:
      target: the file.
      write: writes the content to the path of a temporary file.
    """
    if os.path.lexists(target):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with creating(target) as fresh:
            write(fresh)
    except FileExistsError:  # another process created it after the check
        return False
    return True
