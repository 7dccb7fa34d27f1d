"""Overlays of the maps of `explain`, beside the images or in a folder."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.files import local_path
from animesion_jax.images import EXPLAINED, read_image
from animesion_jax.inference.explain import Explainer, overlay
from animesion_jax.inference.heads import Head, HeadFinder
from animesion_jax.inference.named_files import RefusedName, save_png
from animesion_jax.preprocessing import resize


def explain_files(
    explainer: Explainer,
    files: Sequence[Path],
    class_name: str | None = None,
    output: str | None = None,
    finder: HeadFinder | None = None,
) -> Iterator[dict[str, Any]]:
    """Writes overlays of each file; yields {"path", "overlay", "class", "probability"} or {"path", "error"}.

    With a finder, yields {"path", "faces"} instead. "faces" has a dict for each head, the most confident first: "box"
    (left, top, right, bottom in pixels), "confidence", "overlay", "class" and "probability".

    Args:
      explainer: of a bundle.
      files: images; the overlay of face.jpg is face.jpg.explained.png, those of its heads are face.jpg.1.explained.png
        and so on. If a name is too long, the image has an error.
      class_name: character of the map; None for the likeliest of each image.
      output: folder of the overlays; None to write each beside its image.
      finder: from `head_finder`, to explain the heads on whole pictures; None to explain the images as they are.

    Raises:
      InputError: unknown character, a character for a transformer, two overlays with one name, or a folder that cannot
        be written to.
    """
    bundle = explainer.bundle
    class_id = _class_id(explainer, class_name)
    folder = local_path(output) if output else None
    targets = [(folder or file.parent) / file.name for file in files]
    target, times = Counter(targets).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"{times} images have the same overlay {target}{EXPLAINED}; allowed: different names, or no --output"
        )
    for file, target in zip(files, targets, strict=True):
        try:
            image = read_image(file)
            heads = finder.find(image) if finder else []
        except InputError as error:
            yield {"path": str(file), "error": str(error)}
            continue
        try:
            if finder:
                described = {"faces": _explain_heads(explainer, image, heads, class_id, target, finder)}
            else:
                pixels = resize(image, bundle.image_size, bundle.fit)
                described = _explain(explainer, image, pixels, bundle.fit, class_id, target)
        except RefusedName as error:
            described = {"error": str(error)}
        yield {"path": str(file), **described}


def _explain_heads(
    explainer: Explainer,
    image: Image.Image,
    heads: Sequence[Head],
    class_id: int | None,
    target: Path,
    finder: HeadFinder,
) -> list[dict[str, Any]]:
    """Returns the entries of "faces" of `explain_files`."""
    faces = []
    for number, head in enumerate(heads, start=1):
        crop, numbered = finder.crop(image, head.box), target.with_name(f"{target.name}.{number}")
        described = _explain(explainer, crop, head.pixels, finder.margin.fit, class_id, numbered)
        faces.append({"box": list(head.box), "confidence": head.confidence, **described})
    return faces


def _explain(
    explainer: Explainer, image: Image.Image, pixels: np.ndarray, fit: str, class_id: int | None, target: Path
) -> dict[str, Any]:
    """Writes an image under its map to `target` plus `EXPLAINED`; returns {"overlay", "class", "probability"}.

    Args:
      explainer: of a bundle.
      image: an RGB image.
      pixels: the image as the (S, S, 3) uint8 input of the model.
      fit: how the image became the square.
      class_id: of the map; None for the likeliest.
      target: path of the overlay without `EXPLAINED`.
    """
    probabilities, heat = explainer.explain(pixels, class_id)
    named = int(probabilities.argmax()) if class_id is None else class_id
    path = target.with_name(f"{target.name}{EXPLAINED}")
    save_png(overlay(image, heat, fit), path, "--output=FOLDER")
    return {
        "overlay": str(path), "class": explainer.bundle.names[named], "probability": float(probabilities[named])
    }  # fmt: skip


def _class_id(explainer: Explainer, name: str | None) -> int | None:
    if name is None:
        return None
    names = explainer.bundle.names
    if explainer.uses_attention:
        raise InputError(
            f"--class_name={name}: the model is a transformer, and attention is the same for every class; allowed: no "
            "--class_name"
        )
    if name not in names:
        raise InputError(f"unknown character '{name}'; allowed: {', '.join(names[:10])}{' ...' * (len(names) > 10)}")
    return names.index(name)
