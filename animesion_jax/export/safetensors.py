"""Bundles as `.safetensors` that torchvision (ResNets) and timm (ViTs, hybrids) load; see docs/export.md."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import safetensors.numpy
from etils import epath

from animesion_jax.bundle import Bundle, metadata
from animesion_jax.errors import InputError
from animesion_jax.export.timm_names import timm_arguments, to_timm
from animesion_jax.files import write_whole
from animesion_jax.models import FAMILIES, family_of
from animesion_jax.pretrained.merge import Arrays
from animesion_jax.pretrained.torchvision import to_torchvision

log = logging.getLogger(__name__)


class Layout(NamedTuple):
    """How another library has a family of models.

    Attributes:
      convert: variables to the library's state dict.
      describe: a bundle's description to the function that makes the model there, and its arguments.
    """

    convert: Callable[[Mapping[str, Any]], Arrays]
    describe: Callable[[Mapping[str, Any]], tuple[str, dict[str, Any]]]


LAYOUTS = {
    "torchvision": Layout(
        to_torchvision,
        lambda model: (f"torchvision.models.{model['name']}", {"num_classes": model["num_classes"]}),
    ),
    "timm": Layout(to_timm, lambda model: ("timm.create_model", timm_arguments(model))),
}


def write_safetensors(bundle: Bundle, output: str) -> list[epath.Path]:
    """Writes a bundle's weights under the names of torchvision or timm and returns the file, in a list.

    Raises:
      InputError: a model that neither library has, or the output is a folder.
    """
    name = bundle.description["name"]
    family = family_of(name)
    if family.export_layout is None:
        allowed = ", ".join(model for each in FAMILIES.values() if each.export_layout for model in each.models)
        raise InputError(f"neither torchvision nor timm has {name}; allowed: {allowed}; or give --format=onnx")
    if bundle.description.get("pre_logits"):
        raise InputError(
            f"timm's {name} has no pre_logits layer, this one has; allowed: a model of pre_logits=False; or give "
            "--format=onnx"
        )
    layout = LAYOUTS[family.export_layout]
    function, arguments = layout.describe(bundle.description)
    if bundle.enrolled:
        log.warning(
            "the %d enrolled characters are no weights of the model and stay behind; --format=onnx has them",
            len(bundle.enrolled.names),
        )
    described = metadata(bundle, bundle.classes)
    # "format" tells those who load it that the layout is PyTorch's.
    described |= {"format": "pt", "create": json.dumps({"call": function, "arguments": arguments})}
    return [write_whole(output, [safetensors.numpy.save(layout.convert(bundle.variables), described)])]
