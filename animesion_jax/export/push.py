"""Uploads a bundle with its model card to a repository of the Hugging Face Hub."""

import urllib.parse
from pathlib import Path
from typing import NamedTuple

import animesion_jax
from animesion_jax import hub
from animesion_jax.bundle import ENDING
from animesion_jax.errors import InputError, join_some
from animesion_jax.hub.hugging_face import MAIN, explain, parse

# Names in the repository. All bundles have the same name, because hf://OWNER/REPO allows only one.
BUNDLE, CARD = f"bundle{ENDING}", "README.md"

# The hub checks the card before it takes any file; further lines of its error list the faults.
INVALID_CARD = "Invalid metadata in README.md."


class Target(NamedTuple):
    """A branch of a repository that a bundle is uploaded to.

    Attributes:
      address: hf://OWNER/REPO, with @BRANCH for another branch than `MAIN`.
      repo: OWNER/REPO.
      revision: the branch.
      private: whether the repository is private, or will be.
      is_new, is_new_branch: whether the upload creates the repository, or the branch.
      names: of the files in the branch.
    """

    address: str
    repo: str
    revision: str
    private: bool
    is_new: bool
    is_new_branch: bool
    names: tuple[str, ...]


def find_target(address: str, *, public: bool = False) -> Target:
    """Returns the target at an address; writes nothing.

    Args:
      address: hf://OWNER/REPO[@BRANCH].
      public: whether a new repository becomes public.

    Raises:
      InputError: the address has a file or is malformed, there is no token, the hub refuses it, the repository is
        private although `public` is set, or it has another bundle.
    """
    from huggingface_hub import HfApi, constants, errors, get_token

    if not hub.is_address(address) or (place := parse(address)).file:
        raise InputError(f"--push={address}; allowed: hf://OWNER/REPO[@BRANCH], without a file")
    if get_token() is None:
        raise InputError(
            f"--push={address} needs a token that may write; log in with `hf auth login`, or set HF_TOKEN; "
            f"{constants.ENDPOINT}/settings/tokens has yours"
        )
    api, private, is_new, is_new_branch, names = HfApi(), not public, False, False, ()
    try:
        private = bool(api.model_info(place.repo).private)
        files = api.model_info(place.repo, revision=place.revision).siblings or ()
        names = tuple(each.rfilename for each in files)
    except errors.GatedRepoError as error:
        raise explain(error, address, pushes=True) from error
    except errors.RepositoryNotFoundError:
        is_new, is_new_branch = True, place.revision != MAIN
    except errors.RevisionNotFoundError:
        is_new_branch = True
    except Exception as error:  # huggingface_hub and its HTTP client have no exception type in common
        raise explain(error, address, pushes=True) from error
    if public and private:
        page = f"{constants.ENDPOINT}/{place.repo}/settings"
        raise InputError(f"--public is for a new repository, and {place.repo} is private; {page} makes it public")
    others = [name for name in names if name.endswith(ENDING) and name != BUNDLE]
    if others:
        raise InputError(
            f"{address} has {join_some(others)}, and a second bundle would make this address ambiguous; allowed: "
            "another repository or branch, or this one without that file"
        )
    revision = "" if place.revision == MAIN else f"@{urllib.parse.quote(place.revision, safe='')}"
    return Target(f"hf://{place.repo}{revision}", place.repo, place.revision, private, is_new, is_new_branch, names)


def describe(target: Target, bundle: Path, card: str) -> str:
    """Returns what `upload` will do, in lines: where to, and the files with their sizes."""
    from huggingface_hub import constants

    sizes = {BUNDLE: bundle.stat().st_size, CARD: len(card.encode())}
    lines = [
        f"  {name:<{len(BUNDLE)}}  {size:>13,} bytes{', replaces the one there' if name in target.names else ''}"
        for name, size in sizes.items()
    ]
    access = "private" if target.private else "public"
    new, new_branch = ("new " if each else "" for each in (target.is_new, target.is_new_branch))
    hint = "; --public makes a new one public" if target.is_new and target.private else ""
    return "\n".join(
        [
            f"uploading to {constants.ENDPOINT}/{target.repo}, a {new}{access} repository{hint}",
            f"  {new_branch}branch {target.revision}",
            *lines,
            f"  SHA-256 of {BUNDLE}: {hub.sha256(bundle)}",
        ]
    )


def upload(target: Target, bundle: Path, card: str) -> str:
    """Creates the repository and the branch if they are missing, and commits both files; returns the commit's hash.

    Raises:
      InputError: the hub refuses the token or the card, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="animesion_jax", library_version=animesion_jax.__version__)
    files = {BUNDLE: str(bundle), CARD: card.encode()}
    try:
        if target.is_new:
            api.create_repo(target.repo, private=target.private)
        if target.is_new_branch:
            api.create_branch(target.repo, branch=target.revision)
        commit = api.create_commit(
            target.repo,
            [CommitOperationAdd(name, content) for name, content in files.items()],
            revision=target.revision,
            commit_message=f"Upload a bundle with animesion_jax {animesion_jax.__version__}",
        )
    except Exception as error:
        if str(error).startswith(INVALID_CARD):
            raise InputError(f"{target.address}: {' '.join(str(error).split())}; give another --licence") from error
        raise explain(error, target.address, pushes=True) from error
    return commit.oid
