"""Files that are named after an image: copies, crops, overlays and text files."""

import contextlib
import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from animesion_jax.errors import InputError, join_some
from animesion_jax.files import creating, expand_home, local_path, replacing

# The name is too long, or has characters that the file system does not allow.
REFUSED_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class RefusedName(InputError):
    """A file system refuses the name of one file; the files of other images are not affected."""


class Below:
    """Paths below a folder, in the subfolders that the images have in the given folders."""

    def __init__(self, folder: str, given: Sequence[str]):
        """Keeps a local folder, and the files and folders that the user gave; InputError if it is an address."""
        self._folder = local_path(folder)
        self._roots = [os.path.join(os.path.abspath(expand_home(path)), "") for path in given]

    def path(self, image: str | Path) -> str:
        """Returns the path of an image, with its own name, below the folder."""
        whole = os.path.abspath(image)
        root = next((root for root in self._roots if whole.startswith(root)), os.path.join(os.path.dirname(whole), ""))
        return os.path.join(self._folder, whole.removeprefix(root))


def check_distinct(targets: dict[str, str], kind: str, otherwise: str) -> None:
    """Raises InputError if two images have the same file.

    Args:
      targets: paths of the files by absolute path of the image.
      kind: of the file, for the message.
      otherwise: what the user can do instead of giving images of different names.
    """
    target, times = Counter(targets.values()).most_common(1)[0]
    if times > 1:
        same = join_some(sorted(image for image in targets if targets[image] == target))
        raise InputError(f"{same} have the same {kind} {target}; allowed: different names, or {otherwise}")


def check_outside(folder: str, flag: str, images: Sequence[str]) -> None:
    """Raises InputError if a second start would read the files written to a folder, or the folder is an address.

    Args:
      folder: to write to.
      flag: its name, for the message.
      images: the files and folders that the user gave.
    """
    target = local_path(folder).resolve()
    for name in images:
        given = Path(expand_home(name)).resolve()
        if given.is_dir() and target.is_relative_to(given):
            raise InputError(f"--{flag}={folder} is inside {name}, whose images are read; allowed: a folder outside it")


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


def save_png(image: Image.Image, target: Path, flag: str) -> None:
    """Writes an image atomically to a PNG file, and creates its folder; arguments and errors as in `writing`."""
    with writing(target, flag):
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as fresh:
            image.save(fresh, format="PNG")


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
