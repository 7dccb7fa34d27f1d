"""A download that survives interruption: what has come stays, the length is checked, the file appears whole."""

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from etils import epath
from tqdm import tqdm

from animesion_jax.errors import first_line

TIMEOUT_SECONDS = 30
# How often a download that broke off goes on by itself.
ATTEMPTS = 4
CHUNK = 1 << 20


def download(url: str, target: Path, bucket_path: str | None = None) -> None:
    """Writes the file behind `url` to `target`, which appears whole or not at all.

    What a broken download has brought stays in `target.part`; this call, or the next one, goes on from there, if the
    server still has the same file.

    Args:
      url: http or https.
      target: file to write, in an existing folder.
      bucket_path: gs:// path to read with the user's credentials where the public address is refused.

    Raises:
      OSError: refused, not found, or broken off more than `ATTEMPTS` times.
    """
    with target.with_name(f"{target.name}.part").open("ab") as part:
        # A second process waits here, and then finds the target.
        fcntl.flock(part, fcntl.LOCK_EX)
        for attempt in range(ATTEMPTS):
            if target.exists():
                return
            try:
                _fetch(url, part, _Note(target.with_name(f"{target.name}.part.json")))
            except urllib.error.HTTPError as error:
                if error.code in (401, 403) and bucket_path:
                    _copy_from_bucket(bucket_path, part)
                elif error.code < 500 or attempt == ATTEMPTS - 1:
                    raise
                else:
                    continue
            except (OSError, http.client.HTTPException):
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            _check_digest(Path(part.name))
            os.replace(part.name, target)
            _Note(target.with_name(f"{target.name}.part.json")).path.unlink(missing_ok=True)
            return


class _Note:
    """What is known of the file that a `.part` belongs to: its length and the server's validator."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, str]:
        try:
            return json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}

    def write(self, length: int | None, headers: http.client.HTTPMessage) -> None:
        validator = headers.get("ETag") or headers.get("Last-Modified") or ""
        self.path.write_text(json.dumps({"length": str(length), "validator": validator}))


def _fetch(url: str, part: BinaryIO, note: _Note) -> None:
    """Appends what is missing of `url` to the open file `part`, or starts it anew; OSError if it comes short."""
    part.seek(0, os.SEEK_END)
    known, done = note.read(), part.tell()
    request = urllib.request.Request(url, headers={"User-Agent": "animesion_jax"})
    if done and known:
        request.add_header("Range", f"bytes={done}-")
        if known["validator"] and not known["validator"].startswith("W/"):
            request.add_header("If-Range", known["validator"])
    elif done:
        part.truncate(0)
        done = 0
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        part.truncate(0)
        raise OSError("what was there is longer than the file; starting anew") from error
    with response:
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else None
        goes_on = re.match(rf"bytes {done}-\d+/{known.get('length')}$", response.headers.get("Content-Range", ""))
        if not (response.status == http.HTTPStatus.PARTIAL_CONTENT and goes_on):
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:
                part.truncate(0)
                raise OSError("the file has changed on the server; starting anew")
            part.truncate(0)
            done, total = 0, int(length) if length else None
            note.write(total, response.headers)
        with tqdm(
            total=total, initial=done, unit="B", unit_scale=True, unit_divisor=1024, desc=Path(part.name).stem,
            disable=None, dynamic_ncols=True,
        ) as bar:  # fmt: skip
            while chunk := response.read(CHUNK):
                part.write(chunk)
                bar.update(len(chunk))
    part.flush()
    size = os.fstat(part.fileno()).st_size
    if total is not None and size != total:
        raise OSError(f"broke off after {size:,} of {total:,} bytes")


def _copy_from_bucket(path: str, part: BinaryIO) -> None:
    """Copies a gs:// file with the user's own credentials, through TensorFlow or gcsfs as etils finds them."""
    part.truncate(0)
    try:
        with epath.Path(path).open("rb") as file:
            shutil.copyfileobj(file, part, CHUNK)
    except Exception as error:  # each backend has its own exceptions
        raise OSError(f"{path} is not public, and reading it failed: {first_line(error)}") from error
    part.flush()


def _check_digest(part: Path) -> None:
    """Raises OSError unless a file of torchvision has the SHA-256 that its name begins to tell; removes it then."""
    told = re.search(r"-([0-9a-f]{8})\.pth\.part$", part.name)
    if told:
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(told.group(1)):
            os.truncate(part, 0)
            raise OSError(f"its SHA-256 is {digest[:8]}..., not {told.group(1)}")
