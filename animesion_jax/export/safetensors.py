"""Bundles as `.safetensors` for torchvision (ResNets) and timm (ViTs, hybrids); see docs/export.md."""

import json
import logging
from functools import partial

import safetensors.numpy
from etils import epath

from animesion_jax.bundle import Bundle, metadata
from animesion_jax.errors import InputError
from animesion_jax.files import write_whole
from animesion_jax.models import FAMILIES, family_of
from animesion_jax.pretrained import timm_vit
from animesion_jax.pretrained.timm import to_timm
from animesion_jax.pretrained.torchvision import to_torchvision

log = logging.getLogger(__name__)

# Epsilon of timm's layer norms. No argument that JSON can hold changes it.
TIMM_EPSILON = 1e-6


def write_safetensors(bundle: Bundle, output: str) -> list[epath.Path]:
    """Writes a bundle's weights under the names of torchvision or timm and returns the file in a list.

    Raises:
      InputError: neither library has the model, or the output is a folder.
    """
    name = bundle.description["name"]
    family = family_of(name)
    if not (family.timm or family.has_torchvision_names):
        able = (each for each in FAMILIES.values() if each.timm or each.has_torchvision_names)
        allowed = ", ".join(model for each in able for model in each.models)
        raise InputError(f"neither torchvision nor timm has {name}; allowed: {allowed}; or give --format=onnx")
    if bundle.description.get("pre_logits"):
        raise InputError(
            f"timm's {name} has no pre_logits layer, this one has; allowed: a model of pre_logits=False; or give "
            "--format=onnx"
        )
    if family.timm:
        write = timm_vit.to_timm if family.name == "vit" else partial(to_timm, family=family)
        arrays, function = write(bundle.variables), "timm.create_model"
        arguments = {
            "model_name": family.timm.models[name],
            "num_classes": bundle.description["num_classes"],
            "img_size": bundle.image_size,
            **family.timm.arguments(bundle.description),
        }
    else:
        arrays, function = to_torchvision(bundle.variables), f"torchvision.models.{name}"
        arguments = {"num_classes": bundle.description["num_classes"]}
        if name == "resnet10":
            # torchvision has no function for it; timm has the same names.
            function, arguments = "timm.create_model", {"model_name": "resnet18", "layers": [1, 1, 1, 1], **arguments}
    if bundle.enrolled:
        log.warning(
            "the %d enrolled characters are left out, they are not weights of the model; --format=onnx includes them",
            len(bundle.enrolled.names),
        )
    described = metadata(bundle, bundle.classes)
    # Loaders read from "format" that the layout is PyTorch's.
    create = {"call": function, "arguments": arguments}
    if (epsilon := bundle.description.get("epsilon", TIMM_EPSILON)) != TIMM_EPSILON:
        log.warning("this model's epsilon is %g, timm's %g; docs/export.md says how to set it", epsilon, TIMM_EPSILON)
        create["layer_norm_eps"] = epsilon
    described |= {"format": "pt", "create": json.dumps(create)}
    return [write_whole(output, [safetensors.numpy.save(arrays, described)])]
