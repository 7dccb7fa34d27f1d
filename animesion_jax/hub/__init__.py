"""Local files behind hf://, https://, http:// and gs:// addresses, downloaded on first use."""

import re
from collections.abc import Collection, Iterable, Mapping

from animesion_jax.errors import InputError
from animesion_jax.hub import downloads, hugging_face
from animesion_jax.hub.downloads import CACHE_VARIABLE, cache_folder, cache_path, without_secrets
from animesion_jax.hub.fetched import Fetched, sha256

SCHEMES = ("hf://", "https://", "http://", "gs://")

__all__ = [
    "CACHE_VARIABLE",
    "SCHEMES",
    "Fetched",
    "cache_folder",
    "cache_path",
    "check_scheme",
    "fetch",
    "fetch_beside",
    "file_name",
    "is_address",
    "is_same_file",
    "licence",
    "sha256",
    "usual_file",
    "without_secrets",
]


def is_address(path: str) -> bool:
    """Returns whether `path` starts with one of `SCHEMES`."""
    return path.startswith(SCHEMES)


def is_same_file(address: str, file: str) -> bool:
    """Returns whether an address is that of a file; of Hugging Face's in any revision, or of its repository.

    Raises:
      InputError: an hf:// address is malformed.
    """
    if not (address.startswith("hf://") and file.startswith("hf://")):
        return address == file
    place, other = hugging_face.parse(address), hugging_face.parse(file)
    return place.repo == other.repo and place.file in ("", other.file)


def check_scheme(path: str) -> None:
    """Raises InputError for an address of another scheme than `SCHEMES`, such as s3://."""
    if re.match("[A-Za-z][A-Za-z0-9+.-]*://", path) and not is_address(path):
        raise InputError(f"{path} cannot be read; allowed: a local path, {', '.join(SCHEMES)}")


def file_name(address: str) -> str:
    """Returns the name of the file that an address ends in; "" for the address of a whole repository."""
    if address.startswith("hf://"):
        return hugging_face.parse(address).file.rpartition("/")[2]
    return downloads.file_name(address)


def fetch(address: str, endings: Collection[str] = ()) -> Fetched:
    """Returns the local file behind an address; downloads it on first use.

    Args:
      address: hf://OWNER/REPO[@REVISION][/FILE], https://HOST/FILE, http://HOST/FILE or gs://BUCKET/FILE.
      endings: without FILE, the repository's one file with such an ending is taken, for example ".msgpack".

    Raises:
      InputError: the address is malformed, the file cannot be downloaded, several files have such endings, or the
        folder for downloads is unknown.
    """
    return hugging_face.fetch(address, endings) if address.startswith("hf://") else downloads.fetch(address)


def usual_file(address: str, usual: Mapping[str, str]) -> str:
    """Returns the address of a repository's usual file; other addresses unchanged.

    Args:
      address: of a file or a repository.
      usual: paths of files by OWNER/REPO.

    Raises:
      InputError: an hf:// address is malformed.
    """
    if not address.startswith("hf://"):
        return address
    place = hugging_face.parse(address)
    file = usual.get(place.repo)
    return f"{address.rstrip('/')}/{file}" if file and not place.file else address


def fetch_beside(fetched: Fetched, names: Iterable[str]) -> None:
    """Downloads other files of the folder of a file from Hugging Face, if they exist; they appear beside it."""
    if fetched.origin["address"].startswith("hf://"):
        hugging_face.fetch_beside(fetched, names)


def licence(address: str) -> str:
    """Returns the licence on the page of a repository of Hugging Face, such as "mit"; "" if it is unknown."""
    return hugging_face.licence(address) if address.startswith("hf://") else ""
