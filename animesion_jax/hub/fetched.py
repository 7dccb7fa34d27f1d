"""A downloaded file and where it came from."""

import hashlib
from pathlib import Path
from typing import NamedTuple


class Fetched(NamedTuple):
    """A local file and its origin.

    Attributes:
      path: of the file.
      origin: "address" without secrets, and for hf:// also "file" in the repository and "revision", the commit's hash.
    """

    path: Path
    origin: dict[str, str]


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a local file in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
