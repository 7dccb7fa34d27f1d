"""Where published weights come from: names, addresses, licences, and the cache that downloads go to."""

import difflib
import hashlib
import http.client
import os
import re
import string
import urllib.parse
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from animesion_jax.errors import InputError, first_line
from animesion_jax.hub import download

BUCKETS = "https://storage.googleapis.com"
GOOGLE = f"{BUCKETS}/vit_models"
TIMM = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"
PYTORCH = "https://download.pytorch.org/models"
# Overrides ~/.cache/animesion_jax.
CACHE_VARIABLE = "ANIMESION_CACHE"


class Source(NamedTuple):
    """A published file of weights."""

    url: str
    licence: str


# Names for `config.pretrained`, by what a name stands for.
NAMED: dict[str, Source] = {
    **{
        f"google/{path}": Source(f"{GOOGLE}/{urllib.parse.quote(path)}.npz", "Apache-2.0")
        for path in [
            *(f"imagenet21k/{name}" for name in (
                "ViT-B_16", "ViT-B_32", "ViT-L_16", "ViT-L_32", "ViT-H_14",
                "R50+ViT-B_16", "R26+ViT-B_32", "R50+ViT-L_32",
            )),
            *(f"imagenet21k+imagenet2012/{name}" for name in ("ViT-B_16", "ViT-B_32", "ViT-L_16", "ViT-L_32")),
            "augreg/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
            "augreg/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
            "augreg/S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0",
            "augreg/B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0",
            "augreg/B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0",
            "augreg/L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0",
            *(f"sam/ViT-{name}" for name in ("S_16", "B_16", "B_32", "L_16", "L_32")),
            *(f"gsam/ViT-{name}" for name in ("S_16", "S_32", "B_16", "B_32")),
        ]
    },
    **{
        f"timm/resnet{depth}.tv_in1k": Source(TIMM.format(f"resnet{depth}.tv_in1k"), "BSD-3-Clause")
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"torchvision/resnet{depth}": Source(f"{PYTORCH}/resnet{depth}-{digest}.pth", "BSD-3-Clause")
        for depth, digest in (
            (18, "f37072fd"), (34, "b627a593"), (50, "0676ba61"), (101, "63fe2227"), (152, "394f9c45"),
        )
    },
}  # fmt: skip

# What `MODEL,pretrained` starts from: for the paper's models, the files that the paper started from.
DEFAULTS: dict[str, str] = {
    **{f"resnet{depth}": f"timm/resnet{depth}.tv_in1k" for depth in (18, 34, 50, 101, 152)},
    "vit_ti16": "google/augreg/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0",
    "vit_s16": "google/augreg/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0",
    "vit_s32": "google/augreg/S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0",
    "vit_b16": "google/imagenet21k/ViT-B_16",
    "vit_b32": "google/imagenet21k/ViT-B_32",
    "vit_l16": "google/imagenet21k/ViT-L_16",
    "vit_l32": "google/imagenet21k/ViT-L_32",
    "vit_h14": "google/imagenet21k/ViT-H_14",
    "r50_vit_b16": "google/imagenet21k/R50+ViT-B_16",
    "r26_vit_b32": "google/imagenet21k/R26+ViT-B_32",
    "r50_vit_l32": "google/imagenet21k/R50+ViT-L_32",
}


def is_remote(path: str) -> bool:
    """Returns whether `path` is a name of `NAMED` or an address, not a local path."""
    return path in NAMED or path.startswith(("https://", "http://", "gs://"))


def cache_folder() -> Path:
    """Returns where downloads are kept: $ANIMESION_CACHE or ~/.cache/animesion_jax."""
    return Path(os.path.expanduser(os.environ.get(CACHE_VARIABLE) or "~/.cache/animesion_jax"))


def locate(path: str, suffixes: Collection[str]) -> Path:
    """Returns the local file of a path, an address or a name of `NAMED`; downloads it on first use.

    Args:
      path: what `config.pretrained` says.
      suffixes: of the files that can be read, such as ".npz"; others are not downloaded.

    Raises:
      InputError: no such file or name, of another suffix, or it cannot be downloaded.
    """
    if not is_remote(path):
        return _checked_suffix(path, _local(path), suffixes)
    address = _address(path)
    target = _checked_suffix(path, cache_path(address), suffixes)
    try:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            download(address, target, bucket_path=path if path.startswith("gs://") else None)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"cannot download {address} ({first_line(error)}); put the file at {target}, or give the path of "
            f"your copy instead of {path}"
        ) from error
    return target


def cache_path(address: str) -> Path:
    """Returns where the file behind an address is kept: HOST/PATH in the cache folder, and never outside of it.

    Addresses that differ in more than that, in a query or in what no file name may have, get a hash of the address.

    Raises:
      InputError: the address has no valid form.
    """
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError as error:
        raise InputError(
            f"{address} is no address ({error}); allowed: https://HOST/FILE or gs://BUCKET/FILE"
        ) from error
    steps = [parts.netloc, *urllib.parse.unquote(parts.path.removeprefix("/")).split("/")]
    safe = ["_" if step in ("", ".", "..") else re.sub(r"[\x00-\x1f\\]", "_", step) for step in steps]
    if parts.query or safe != steps:
        stem, suffix = os.path.splitext(safe[-1])
        safe[-1] = f"{stem}-{hashlib.sha256(address.encode()).hexdigest()[:8]}{suffix}"
    return cache_folder().joinpath(*safe)


def _address(path: str) -> str:
    """Returns the http or https address of a name, a gs:// path or an address, with no spaces or accents left."""
    if path in NAMED:
        return NAMED[path].url
    if path.startswith("gs://"):
        return f"{BUCKETS}/{urllib.parse.quote(path.removeprefix('gs://'))}"
    return urllib.parse.quote(path, safe=string.punctuation)


def _local(path: str) -> Path:
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        near = difflib.get_close_matches(path, NAMED, 3, 0.5) or list(NAMED)[:3]
        raise InputError(
            f"no weights at {file}; allowed: a local file, a run's workdir, gs://, https://, or a name of "
            f"animesion_jax/pretrained/sources.py such as {', '.join(near)}"
        )
    return file


def _checked_suffix(path: str, file: Path, suffixes: Collection[str]) -> Path:
    if file.suffix not in suffixes:
        raise InputError(
            f"cannot tell what weights are in {path}, whose name ends in '{file.suffix}'; allowed: "
            f"{', '.join(suffixes)}, or the workdir of a run"
        )
    return file
