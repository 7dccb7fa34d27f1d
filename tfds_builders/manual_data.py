"""Checks on what a user puts into a data set's manual folder: files, paths and images."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

from PIL import Image
from tqdm import tqdm

# How many broken images an error names.
NAMED = 10

log = logging.getLogger(__name__)


def require(folder: Path, names: Iterable[str], where_from: str) -> None:
    """Raises FileNotFoundError naming what is missing in the manual folder and where to get it."""
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; {where_from}")


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields ("FILE line N", line) of the lines of a UTF-8 text file that are not blank; a BOM is dropped."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path} line {number}", line.rstrip("\r\n")


def relative_path(text: str) -> str:
    """Returns a path below the manual folder with forward slashes.

    Raises:
      ValueError: the path is absolute, has a drive letter, an empty or a `..` component, or a NUL.
    """
    path = text.strip().replace("\\", "/")
    parts = path.split("/")
    if "\0" in path or re.match(r"[A-Za-z]:", path) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"path {text!r} leaves the folder or is malformed")
    return path


def find_image(folder: Path, relative: str) -> Path:
    """Returns the image's path, its numeric folder as written or with 4 or 3 digits; as written if none exists."""
    as_written = folder / relative
    parent, _, name = relative.rpartition("/")
    if not parent.isdecimal() or as_written.exists():
        return as_written
    for digits in (4, 3):
        candidate = folder / f"{int(parent):0{digits}d}" / name
        if candidate.exists():
            return candidate
    return as_written


def image_fault(path: Path) -> str | None:
    """Returns why a file is no good RGB image, or None; the file is decoded to the end."""
    try:
        with Image.open(path) as image:
            if image.mode != "RGB":
                return f"not RGB but {image.mode}"
            image.load()
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"broken: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return None


def broken_images(paths: Sequence[Path]) -> dict[int, str]:
    """Returns the faults of images by their place in `paths`; all are decoded, on every core."""
    with ThreadPool(os.cpu_count()) as pool:
        faults = pool.imap(image_fault, paths, chunksize=64)
        checked = tqdm(faults, total=len(paths), desc="checking images", unit="img", disable=None)
        return {place: fault for place, fault in enumerate(checked) if fault}


def report_broken(paths: Sequence[Path], faults: Mapping[int, str], skip: bool) -> None:
    """Logs the broken images when `skip` is set, else raises ValueError; both name the count and the first ten."""
    if not faults:
        return
    named = "; ".join(f"{paths[place]} ({fault})" for place, fault in list(faults.items())[:NAMED])
    message = f"{len(faults)} of {len(paths)} images are missing, broken or not RGB: {named}"
    if not skip:
        raise ValueError(f"{message}. Mend them, or leave them out with the config field skip_broken")
    log.warning("left out, as skip_broken says: %s", message)
