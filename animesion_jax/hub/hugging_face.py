"""Files behind hf:// addresses, through huggingface_hub and its cache."""

import logging
import re
import urllib.parse
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from animesion_jax.errors import InputError, first_line, join_some
from animesion_jax.hub.fetched import Fetched

FORM = "hf://OWNER/REPO[@REVISION][/FILE]"
# A revision with a slash is percent-encoded, except the reference of a pull request.
ADDRESS = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/pr/\d+|[^/]+))?(?:/(?P<file>.*))?")
# The branch that huggingface_hub takes by default.
MAIN = "main"

log = logging.getLogger("animesion_jax")


class Place(NamedTuple):
    """The parts of an hf:// address; no file is "", no revision is `MAIN`."""

    repo: str
    revision: str
    file: str


def parse(address: str) -> Place:
    """Returns the parts of an hf:// address; InputError if it is malformed."""
    parts = ADDRESS.fullmatch(address)
    if not parts:
        raise InputError(f"{address} is not an address; allowed: {FORM}")
    if parts["file"] and {"", ".", ".."} & {*parts["file"].split("/")}:
        raise InputError(f"{address} is not an address: '{parts['file']}' is not the path of a file; allowed: {FORM}")
    revision = urllib.parse.unquote(parts["revision"] or MAIN)
    return Place(parts["repo"], revision, parts["file"] or "")


def fetch(address: str, endings: Collection[str] = ()) -> Fetched:
    """Returns the file of an address with its origin; see `animesion_jax.hub.fetch`."""
    from huggingface_hub import HfApi, constants, hf_hub_download

    place = parse(address)
    # huggingface_hub creates a folder named "~" if the home folder is unknown.
    for folder in (constants.HF_HOME, constants.HF_HUB_CACHE):
        if folder.startswith("~"):
            raise InputError(f"cannot download {address} to {folder}: the home folder is unknown; set HOME or HF_HOME")
    try:
        info = HfApi().model_info(place.repo, revision=place.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # huggingface_hub and its HTTP client have no exception type in common
        return _from_cache(address, place, endings, explain(error, address))
    file = place.file or _only([each.rfilename for each in info.siblings], address, endings)
    try:
        path = Path(hf_hub_download(place.repo, file, revision=place.revision, library_name="animesion_jax"))
    except Exception as error:
        raise explain(error, address) from error
    # The cache is laid out as snapshots/COMMIT/FILE.
    return Fetched(path, {"address": address, "file": file, "revision": path.parents[file.count("/")].name})


def fetch_beside(fetched: Fetched, names: Iterable[str]) -> None:
    """Downloads other files of a file's folder and commit, if they exist; they appear beside the file.

    A file that may exist but cannot be downloaded is left out, with a warning.
    """
    from huggingface_hub import errors, hf_hub_download

    address, revision = fetched.origin["address"], fetched.origin["revision"]
    folder = fetched.origin["file"].rpartition("/")[0]
    for name in names:
        file = f"{folder}/{name}" if folder else name
        try:
            hf_hub_download(parse(address).repo, file, revision=revision, library_name="animesion_jax")
        except errors.RemoteEntryNotFoundError:
            continue
        except Exception as error:  # huggingface_hub and its HTTP client have no exception type in common
            if not _is_known_to_be_absent(parse(address).repo, file, revision):
                log.warning("%s; going on without its %s", explain(error, address), file)


def _is_known_to_be_absent(repo: str, file: str, revision: str) -> bool:
    """Returns whether an earlier download found that a commit has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(repo, file, revision=revision) is _CACHED_NO_EXIST


def licence(address: str) -> str:
    """Returns the licence on a repository's page, such as "mit"; "" if it has none or the hub cannot be reached."""
    from huggingface_hub import HfApi, constants

    place = parse(address)
    try:
        info = HfApi().model_info(place.repo, revision=place.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception:  # huggingface_hub and its HTTP client have no exception type in common
        return ""
    return str((info.card_data and info.card_data.license) or "")


def _from_cache(address: str, place: Place, endings: Collection[str], why: InputError) -> Fetched:
    """Returns the file that an earlier download of the revision left in the cache; raises `why` if it is missing."""
    from huggingface_hub import constants, snapshot_download

    patterns = place.file or [f"*{ending}" for ending in endings]
    try:
        cached = snapshot_download(place.repo, revision=place.revision, allow_patterns=patterns, local_files_only=True)
    except (FileNotFoundError, ValueError):
        raise why from None
    folder = Path(cached)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if not any(name == place.file if place.file else name.endswith(tuple(endings)) for name in names):
        raise why
    file = place.file or _only(names, address, endings)
    if not constants.is_offline_mode():
        log.warning("%s; taking the copy in the cache, %s", why, folder / file)
    return Fetched(folder / file, {"address": address, "file": file, "revision": folder.name})


def _only(names: Iterable[str], address: str, endings: Collection[str]) -> str:
    """Returns the one name with one of the endings; InputError if there are several, or none."""
    found = sorted(name for name in names if name.endswith(tuple(endings)))
    if len(found) == 1:
        return found[0]
    has = f"{len(found)} files that end in" if found else "no file that ends in"
    listed = f": {join_some(found)}" if found else ""
    raise InputError(
        f"{address} has {has} {' or '.join(endings)}{listed}; allowed: the address of a file, such as "
        f"{address.rstrip('/')}/{found[0] if found else 'FILE'}"
    )


def explain(error: BaseException, address: str, *, pushes: bool = False) -> InputError:
    """Returns the error of a request to the hub, a download or a push, as one line that says what to do."""
    from huggingface_hub import constants, errors, get_token

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__
    place = parse(address)
    page, quoted = f"{constants.ENDPOINT}/{place.repo}", urllib.parse.quote(place.revision, safe="")
    status = getattr(getattr(error, "response", None), "status_code", None)
    who = "your token" if get_token() else "a request without a token"
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.HFValidationError):
        why = f"{first_line(error)}; allowed: {FORM}"
    elif isinstance(error, errors.GatedRepoError):
        why = f"it is gated, and {who} has no access; accept its terms on {page}, then {log_in}"
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"{who} finds no repository {place.repo}; check its name; if it is private, {log_in}"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"{place.repo} has no revision '{place.revision}'; allowed: a branch, tag or commit of {page}/commits"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        why = f"{place.repo} has no file '{place.file}'; allowed: a file of {page}/tree/{quoted}"
    elif status in (401, 403):
        why = f"the hub refuses {who} ({first_line(error)}); {log_in} to a token with access"
    elif constants.is_offline_mode():
        absent = "" if pushes else f", and {constants.HF_HUB_CACHE} does not have it"
        why = f"HF_HUB_OFFLINE is set{absent}; unset HF_HUB_OFFLINE"
    else:
        file = f"{page}/resolve/{quoted}/{place.file or 'FILE'}"
        other = "" if pushes else f", or download {file} yourself and give the path of your copy"
        reason = f"{type(error).__name__}: {first_line(error)}"
        why = f"{constants.ENDPOINT} cannot be reached ({reason}); try again{other}"
    return InputError(f"{address}: {why}")
