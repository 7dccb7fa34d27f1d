"""Published weights by name: addresses and licences."""

import difflib
import os
import urllib.parse
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from animesion_jax import hub
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home

GOOGLE = "https://storage.googleapis.com/vit_models"
PYTORCH = "https://download.pytorch.org/models"


class Source(NamedTuple):
    """A published file of weights: an address for `hub.fetch` and the name of its licence."""

    url: str
    licence: str


# The names that `config.pretrained` takes.
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
        f"timm/resnet{depth}.tv_in1k": Source(f"hf://timm/resnet{depth}.tv_in1k/model.safetensors", "BSD-3-Clause")
        for depth in (18, 34, 50, 101, 152)
    },
    **{
        f"torchvision/resnet{depth}": Source(f"{PYTORCH}/resnet{depth}-{digest}.pth", "BSD-3-Clause")
        for depth, digest in (
            (18, "f37072fd"), (34, "b627a593"), (50, "0676ba61"), (101, "63fe2227"), (152, "394f9c45"),
        )
    },
}  # fmt: skip


def locate(path: str, suffixes: Collection[str]) -> hub.Fetched:
    """Returns the local file of a path, an address or a name of `NAMED`, and its origin; downloads it on first use.

    Args:
      path: value of `config.pretrained`.
      suffixes: endings of readable files, such as ".npz"; files with other endings are not downloaded.

    Raises:
      InputError: no such file or name, an ending that cannot be read, or a failed download.
    """
    address = NAMED[path].url if path in NAMED else path
    hub.check_scheme(address)
    remote = hub.is_address(address)
    file = Path(expand_home(address))
    if not remote and not file.is_file():
        near = difflib.get_close_matches(path, NAMED, 3, 0.5) or list(NAMED)[:3]
        raise InputError(
            f"no weights at {file}; allowed: a local file, a run's workdir, hf://, gs://, https://, or a name of "
            f"animesion_jax/pretrained/sources.py such as {', '.join(near)}"
        )
    name = hub.file_name(address) if remote else file.name
    suffix = os.path.splitext(name)[1]
    # The address of a repository has no name: `fetch` chooses its file by the suffixes.
    if (name or not remote) and suffix not in suffixes:
        raise InputError(
            f"cannot tell the layout of {path} from its ending '{suffix}'; allowed: {', '.join(suffixes)}, or the "
            "workdir of a run"
        )
    return hub.fetch(address, suffixes) if remote else hub.Fetched(file, {"address": path})
