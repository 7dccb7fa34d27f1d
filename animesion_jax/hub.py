"""A download that survives interruption: what has come stays, the length is checked, the file appears whole."""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from etils import epath
from tqdm import tqdm

from animesion_jax.errors import first_line

TIMEOUT_SECONDS = 30
# How often a download that broke off goes on by itself, and the wait before the second attempt; it doubles.
ATTEMPTS = 4
PAUSE_SECONDS = 1.0
CHUNK = 1 << 16


class BrokenOff(OSError):
    """Less has come than was announced, or what is there cannot be continued; another attempt may help."""


# After these another attempt may help. A full disk or a refused folder stays as it is.
PASSING = (
    BrokenOff, ConnectionError, TimeoutError, ssl.SSLError, http.client.IncompleteRead, http.client.BadStatusLine,
)  # fmt: skip


def download(url: str, target: Path, bucket_path: str | None = None) -> None:
    """Writes the file behind `url` to `target`, which appears whole or not at all.

    What a broken download has brought stays in `target.part`; this call, or the next one, goes on from there, if the
    server still has the same file. A second process that wants the same file waits for the first.

    Args:
      url: http or https. Where its path ends as torchvision's do, in "-XXXXXXXX.pth", that is the beginning of the
        file's SHA-256, which is checked.
      target: file to write, in an existing folder.
      bucket_path: gs:// path to read with the user's credentials where the public address is refused.

    Raises:
      OSError, http.client.HTTPException: unreachable, refused, of unknown length, or broken off `ATTEMPTS` times.
    """
    path = target.with_name(f"{target.name}.part")
    note = Note(target.with_name(f"{target.name}.part.json"))
    with _locked(path) as part:
        try:
            if target.exists():  # another process has brought it meanwhile
                return
            print(f"downloading {url} to {target}", file=sys.stderr)
            _bring(url, part, note, bucket_path)
            os.fsync(part.fileno())
            _check_digest(url, part)
            os.replace(path, target)
            note.remove()
        finally:
            if not os.fstat(part.fileno()).st_size:
                path.unlink(missing_ok=True)
                note.remove()


class Version(NamedTuple):
    """What tells one version of a file on a server from another: bytes, and a strong ETag or a date."""

    length: int
    validator: str


class Note:
    """The file beside a `.part` that says which version the part is of."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> Version | None:
        """Returns the version, None where it is not known."""
        try:
            length, validator = json.loads(self.path.read_text())
        except (OSError, ValueError, TypeError):
            return None
        return Version(length, validator)

    def write(self, response: http.client.HTTPResponse) -> None:
        """Notes the version of a whole file that is about to come; nothing if the server does not tell it."""
        validator = _validator(response)
        if response.length is None or not validator:
            self.remove()
        else:
            self.path.write_text(json.dumps(Version(response.length, validator)))

    def remove(self) -> None:
        """Forgets the version."""
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to append to, and keeps other processes and threads from doing the same."""
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process, which downloads to {path}", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it may have renamed or removed the file: then this lock is on something else.
            if _is_at(file, path):
                yield file
                return


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _bring(url: str, part: BinaryIO, note: Note, bucket_path: str | None) -> None:
    """Makes `part` the whole file, in several attempts if need be."""
    for attempt in range(ATTEMPTS):
        try:
            return _fetch(url, part, note)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403) and bucket_path:
                note.remove()
                return _copy_from_bucket(bucket_path, part)
            if error.code < 500 and error.code != http.HTTPStatus.TOO_MANY_REQUESTS:
                raise
            failure: Exception = error
        except urllib.error.URLError as error:
            if attempt == 0:  # no network; waiting would only delay the advice
                raise
            failure = error
        except PASSING as error:
            failure = error
        if attempt < ATTEMPTS - 1:
            pause = PAUSE_SECONDS * 2**attempt
            print(f"{first_line(failure)}; trying again in {pause:g} s", file=sys.stderr)
            time.sleep(pause)
    raise failure


def _fetch(url: str, part: BinaryIO, note: Note) -> None:
    """Appends what is missing of `url` to `part`, or starts it anew; BrokenOff if it comes short."""
    done, known = part.seek(0, os.SEEK_END), note.read()
    if known is None:
        part.truncate(0)
        done = 0
    elif done == known.length:
        return
    with _open(url, part, done, known) as response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            if not _continues(response, done, known):
                part.truncate(0)
                raise BrokenOff("the file has changed on the server")
            total = known.length
        else:
            part.truncate(0)
            done, total = 0, response.length
            if total is None and not response.chunked:
                raise OSError("the server does not tell the file's length, so a broken download would go unnoticed")
            note.write(response)
        _copy(response, part, done, total)
    size = os.fstat(part.fileno()).st_size
    if total is not None and size != total:
        raise BrokenOff(f"broke off after {size:,} of {total:,} bytes")


def _open(url: str, part: BinaryIO, done: int, known: Version | None) -> http.client.HTTPResponse:
    """Asks for the file, from byte `done` on if it is still of the `known` version."""
    request = urllib.request.Request(url, headers={"User-Agent": "animesion_jax"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", known.validator)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.truncate(0)
        raise BrokenOff("the file on the server is shorter than what is here") from error


def _continues(response: http.client.HTTPResponse, done: int, known: Version | None) -> bool:
    """Returns whether a partial answer goes on at byte `done` of the known version; some servers ignore If-Range."""
    span = response.headers.get("Content-Range", "")
    return (
        known is not None
        and span.startswith(f"bytes {done}-")
        and span.endswith(f"/{known.length}")
        and _validator(response) in ("", known.validator)
    )


def _validator(response: http.client.HTTPResponse) -> str:
    """Returns the strong ETag, else the date, else ""; a weak ETag does not promise the same bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _copy(source: BinaryIO, part: BinaryIO, done: int, total: int | None) -> None:
    """Appends what can be read from `source` to `part`, with a progress bar where a terminal is."""
    with tqdm(
        total=total, initial=done, unit="B", unit_scale=True, unit_divisor=1024, desc=Path(part.name).stem,
        disable=None, dynamic_ncols=True,
    ) as bar:  # fmt: skip
        try:
            while chunk := source.read(CHUNK):
                part.write(chunk)
                bar.update(len(chunk))
        finally:
            part.flush()


def _copy_from_bucket(path: str, part: BinaryIO) -> None:
    """Copies a gs:// file with the user's own credentials, through TensorFlow or gcsfs as etils finds them."""
    part.truncate(0)
    try:
        file = epath.Path(path)
        with file.open("rb") as source:
            _copy(source, part, 0, file.stat().length)
    except Exception as error:  # each backend has its own exceptions
        part.truncate(0)  # a bucket's file cannot be continued
        raise OSError(f"{path} is not public, and reading it failed: {first_line(error)}") from error


def _check_digest(url: str, part: BinaryIO) -> None:
    """Raises OSError, and empties `part`, unless it has the SHA-256 that a name of torchvision's begins to tell."""
    told = re.search(r"-([0-9a-f]{8})\.pth$", urllib.parse.urlsplit(url).path)
    if told:
        with open(part.name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(told.group(1)):
            part.truncate(0)
            raise OSError(f"its SHA-256 begins with {digest[:8]}, not with {told.group(1)} as its name says")
