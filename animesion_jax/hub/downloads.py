"""Files behind https://, http:// and gs:// addresses, and the cache that keeps them."""

import contextlib
import hashlib
import http.client
import os
import re
import string
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from etils import epath
from tqdm import tqdm

from animesion_jax.errors import InputError, first_line
from animesion_jax.files import expand_home, replacing
from animesion_jax.hub.fetched import Fetched

BUCKETS = "https://storage.googleapis.com"
# Overrides `cache_folder` for downloads. Files from Hugging Face are in the cache of huggingface_hub instead.
CACHE_VARIABLE = "ANIMESION_CACHE"
TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16
# Characters of an address that the name of a cached file replaces.
UNSAFE = r"[\x00-\x1f/\\]"


def cache_folder() -> Path:
    """Returns the folder of this program's caches, by default ~/.cache/animesion_jax.

    Raises:
      InputError: the home folder is unknown, as in a container whose user has no entry in /etc/passwd.
    """
    with contextlib.suppress(InputError):
        caches = Path(expand_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache"))
        # Refuse a relative path, which depends on the current folder.
        if caches.is_absolute():
            return caches / "animesion_jax"
    raise InputError("the home folder is unknown; set HOME or XDG_CACHE_HOME to an absolute path")


def file_name(address: str) -> str:
    """Returns the last part of an address, without its query."""
    return urllib.parse.unquote(re.split(r"[?#]", _url(address))[0].rpartition("/")[2])


def fetch(address: str) -> Fetched:
    """Returns the file of an address with its origin; see `animesion_jax.hub.fetch`."""
    target = cache_path(address)
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            print(f"downloading {address} to {target}", file=sys.stderr)
            with replacing(target) as fresh:
                _download(address, fresh, target.name)
        return Fetched(target, {"address": without_secrets(address)})
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"cannot download {address} ({first_line(error)}); put the file at {target}, or give the path of your copy"
        ) from error


def without_secrets(address: str) -> str:
    """Returns an address without user, password and query, which may hold a key."""
    if address.startswith("gs://"):
        return address
    parts = urllib.parse.urlsplit(address)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def cache_path(address: str) -> Path:
    """Returns the path of a file in the cache, named by a hash of its address and the last part of the address."""
    folder = os.environ.get(CACHE_VARIABLE)
    digest = hashlib.sha256(_url(address).encode()).hexdigest()[:8]
    unique = f"{digest}-{re.sub(UNSAFE, '_', file_name(address))}"
    return (Path(expand_home(folder)) if folder else cache_folder()) / unique


def _url(address: str) -> str:
    """Returns the percent-encoded http or https address of an address that may be a gs:// path."""
    if address.startswith("gs://"):
        return f"{BUCKETS}/{urllib.parse.quote(address.removeprefix('gs://'))}"
    return urllib.parse.quote(address, safe=string.punctuation)


def _download(address: str, fresh: Path, name: str) -> None:
    """Writes the file behind an address to `fresh`; `name` labels the progress bar and may hold a checksum.

    Raises:
      OSError, ValueError, http.client.HTTPException: malformed, unreachable, incomplete, or of another checksum.
    """
    try:
        _download_public(_url(address), fresh, name)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (401, 403) or not address.startswith("gs://"):
            raise
        try:
            # With the user's credentials, through TensorFlow or gcsfs.
            epath.Path(address).copy(fresh, overwrite=True)
        except Exception as cause:  # the backends of etils have no exception type in common
            raise OSError(
                f"it is not public, and reading it with your credentials failed: {first_line(cause)}"
            ) from cause


def _download_public(url: str, fresh: Path, name: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "animesion_jax"})
    checksum = hashlib.sha256()
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response, fresh.open("wb") as file:
        length = response.length
        # The last chunk of a chunked response is marked; http.client raises IncompleteRead without it.
        if length is None and not response.chunked:
            raise OSError("the server does not send the length of the file")
        with tqdm(total=length, unit="B", unit_scale=True, unit_divisor=1024, desc=name, disable=None) as bar:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                checksum.update(chunk)
                bar.update(len(chunk))
        if length is not None and file.tell() != length:
            raise OSError(f"the connection ended after {file.tell():,} of {length:,} bytes")
    # torchvision's names end in the first digits of the SHA-256: resnet18-f37072fd.pth.
    promised = re.search(r"-([0-9a-f]{8})\.pth$", name)
    if promised and not checksum.hexdigest().startswith(promised.group(1)):
        raise OSError(f"its SHA-256 starts with {checksum.hexdigest()[:8]}, not with {promised.group(1)}")
