"""Published weights by name or address, and the local files behind them."""

import difflib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn

from animesion_jax import hub
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home
from animesion_jax.models import family_of
from animesion_jax.pretrained.published import NAMED, WD, WD_TAGS, Source

# Options and config fields that change the logits, and that no array's shape reveals.
OPTIONS = ("vit.gelu", "vit.epsilon", "eva02.rotary_grid")
FIELDS = ("mean", "std", "fit")
LIST = "`animesion configs --weights` lists them"

__all__ = ["NAMED", "Source", "check_model", "choose", "differences", "find", "find_copy", "locate", "names_of"]


def names_of(model: str) -> list[str]:
    """Returns the names of a model's published weights."""
    return [name for name, source in NAMED.items() if source.model == model]


def choose(name: str, model: str) -> Source:
    """Returns the source that `MODEL,pretrained=NAME` names.

    Raises:
      InputError: an unknown name, a path or an address, or weights of another model.
    """
    source, own = NAMED.get(name), _near(name, names_of(model)) or "no name"
    if source is None and (hub.is_address(name) or name.endswith((".npz", ".safetensors", ".pth", ".msgpack"))):
        raise InputError(
            f"pretrained={name} is not a name; for a path or an address, give --config.pretrained={name}; "
            "pretrained=NAME beside it sets the options of published weights"
        )
    if source is None:
        raise InputError(f"no published weights are named '{name}'; allowed for {model}: {own}; {LIST}")
    check_model(name, model)
    return source


def check_model(path: str, model: str) -> None:
    """Raises InputError for a name or an address of published weights of another model; before they are downloaded."""
    source = find(path)
    if source and source.model != model:
        own = _near(path, names_of(model)) or "no name"
        raise InputError(f"{path} are weights of {source.model}, not of {model}; allowed for {model}: {own}; {LIST}")


def find(path: str) -> Source | None:
    """Returns the published weights with a name or an address, of any revision; None for other weights."""
    if path in NAMED or not hub.is_address(path):
        return NAMED.get(path)
    return next((source for source in NAMED.values() if hub.is_same_file(path, source.url)), None)


def find_copy(num_classes: int, model: nn.Module) -> Source | None:
    """Returns the published weights that a file is a copy of, if its classifier reveals them; None for other files.

    Args:
      num_classes: of the file's classifier; 0 without one.
      model: the model that takes the weights.
    """
    # Their ViTs are pooled by the mean.
    if num_classes != WD_TAGS or getattr(model, "pool", "mean") != "mean":
        return None
    # Taggers of one family have the same options.
    return next((source for source in WD.values() if type(_default_model(source)) is type(model)), None)


def differences(source: Source, model: nn.Module, preprocessing: Mapping[str, Any]) -> list[str]:
    """Returns a line for each option that the weights expect and a run does not have.

    Args:
      source: the weights.
      model: of the family of `source.model`; others are not compared.
      preprocessing: values of config fields, such as "mean"; missing ones are not compared.
    """
    family = family_of(source.model)
    default = _default_model(source)
    trained, given = {"mean": family.mean, "std": family.std}, dict(preprocessing)
    for name in OPTIONS:
        section, _, option = name.partition(".")
        if section == family.name and hasattr(model, option):
            trained[name], given[name] = getattr(default, option), getattr(model, option)
    trained |= source.options
    return [
        f"the weights expect {name}={_show(trained[name])}, this model has {_show(given[name])}"
        for name in (*OPTIONS, *FIELDS)
        if name in given and given[name] != trained.get(name, given[name])
    ]


def unrevealed(model: nn.Module) -> list[str]:
    """Returns the options of a model that the arrays of a file do not reveal, such as "vit.gelu=tanh"."""
    names = (name.rpartition(".") for name in OPTIONS)
    return [
        f"{section}.{option}={_show(getattr(model, option))}" for section, _, option in names if hasattr(model, option)
    ]


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
        raise InputError(
            f"no weights at {file}; allowed: a local file, a run's workdir, hf://, gs://, https://, or a name such as "
            f"{_near(path, NAMED)}; {LIST}"
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


def _near(name: str, names: Collection[str]) -> str:
    """Returns up to three names that resemble a name, or the first three."""
    return ", ".join(difflib.get_close_matches(name, names, 3, 0.5) or list(names)[:3])


def _default_model(source: Source) -> nn.Module:
    return family_of(source.model).models[source.model](num_classes=1)


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
