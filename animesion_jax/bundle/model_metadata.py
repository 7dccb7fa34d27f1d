"""The metadata that other formats store beside the weights: JSON by key."""

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import animesion_jax
from animesion_jax.bundle.bundle import Bundle, Crops, checked_crops
from animesion_jax.bundle.checks import MAX_IMAGE_SIZE, checked_classes, checked_dict, checked_fit, checked_statistics
from animesion_jax.preprocessing import RESIZE


@dataclass(frozen=True)
class ModelMetadata:
    """A model as its metadata describe it, with the names of `Bundle`.

    Attributes:
      names: of the outputs, in order.
      image_size, mean, std, fit: see `Bundle`.
      threshold: an image is unknown if the probability of its likeliest character is below this; None if the bundle was
        not calibrated.
      crops: of whole pictures, without their source; see `Bundle`.
    """

    names: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str
    threshold: float | None
    crops: Crops | None


def metadata(bundle: Bundle, names: Sequence[str]) -> dict[str, str]:
    """Returns the metadata of a bundle, each value as JSON.

    Args:
      bundle: source of the weights.
      names: names of the outputs, in order.
    """
    described = {
        "animesion_jax": animesion_jax.__version__,
        "classes": names,
        "model": bundle.description,
        "preprocessing": {
            "size": bundle.image_size,
            "fit": bundle.fit,
            "resize": RESIZE,
            "scale": "pixels / 255",
            "mean": bundle.mean,
            "std": bundle.std,
            "channels": "RGB",
        },
        "training": bundle.training,
    }
    if bundle.origin:
        described["origin"] = bundle.origin
    if bundle.calibration:
        described["calibration"] = {name: getattr(bundle.calibration, name) for name in ("temperature", "threshold")}
    if bundle.crops:
        described["crops"] = {name: value for name, value in bundle.crops.to_tree().items() if name != "source"}
    return {key: json.dumps(value, ensure_ascii=False, sort_keys=True) for key, value in described.items()}


def read_metadata(texts: Mapping[str, str]) -> ModelMetadata:
    """Returns the model that the entries of `metadata` describe.

    Raises:
      ValueError, KeyError, TypeError, RecursionError: an entry is missing, or has another type or value.
    """
    entries: dict[str, Any] = {key: json.loads(texts[key]) for key in ("classes", "preprocessing")}
    entries |= {key: json.loads(texts[key]) for key in ("calibration", "crops") if key in texts}
    preprocessing = checked_dict(entries, "preprocessing")
    size = preprocessing["size"]
    if type(size) is not int or not 1 <= size <= MAX_IMAGE_SIZE:
        raise ValueError(f"the size is {reprlib.repr(size)}; allowed: 1 to {MAX_IMAGE_SIZE}")
    threshold = checked_dict(entries, "calibration")["threshold"] if "calibration" in entries else None
    if threshold is not None and not (type(threshold) is float and 0 < threshold < float("inf")):
        raise ValueError(f"the threshold is {reprlib.repr(threshold)}; allowed: a finite number above 0")
    crops = checked_crops(checked_dict(entries, "crops") | {"source": {}}) if "crops" in entries else None
    mean, std = checked_statistics(preprocessing)
    return ModelMetadata(
        checked_classes(entries["classes"]), size, mean, std, checked_fit(preprocessing.get("fit")), threshold, crops
    )
