"""The parts of a bundle, and the checks that they fit together."""

import dataclasses
import re
import reprlib
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import numpy as np

from animesion_jax import hub
from animesion_jax.bundle.checks import (
    checked_classes,
    checked_dict,
    checked_fit,
    checked_image_size,
    checked_origin,
    checked_statistics,
    checked_training,
    checked_variables,
    is_exactly,
)
from animesion_jax.errors import InputError, first_line
from animesion_jax.models import HEAD, abstract_variables, create_model
from animesion_jax.preprocessing import Margin

# Numbers of a calibration that may be 0 or negative.
MAY_BE_NEGATIVE = ("scale", "offset")
# Ranges of the numbers of a margin, far beyond useful ones.
MARGINS = {"scale": (0.01, 100.0), "shift": (-100.0, 100.0)}


@dataclass(frozen=True)
class Calibration:
    """The parameters that turn a model's outputs into probabilities and a decision, fitted on held-out images.

    Attributes:
      temperature: divides the logits before the softmax; above 0.
      threshold: an image is unknown if the probability of its likeliest character is below this.
      false_accept_rate: share of the impostors (images of unknown characters) at or above the threshold, 0 to 1.
      scale, offset: the logit of an enrolled character is scale * cosine similarity + offset; None if there were too
        few images to fit them.
      source: the images it was fitted on, and figures measured on them.
    """

    temperature: float
    threshold: float
    false_accept_rate: float
    scale: float | None
    offset: float | None
    source: dict[str, Any]


@dataclass(frozen=True)
class Enrolled:
    """Characters added after training.

    Attributes:
      names: distinct, and different from the classes.
      embeddings: (characters, features) float32 of unit norm, the normalised mean over each character's images.
      counts: number of images of each character.
    """

    names: tuple[str, ...]
    embeddings: np.ndarray
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Crops:
    """The crops of whole pictures that the model expects.

    Attributes:
      detector: public name of the detector, such as "lbpcascade_animeface.xml" or hf://OWNER/REPO/FILE.
      sha256: of the detector's file, in hexadecimal digits. The margin holds for this file only.
      margin: how a box of the detector becomes a crop.
      source: how the margin was chosen, and figures measured for it.
    """

    detector: str
    sha256: str
    margin: Margin
    source: dict[str, Any]

    def to_tree(self) -> dict[str, Any]:
        """Returns the part "crops" of a bundle's tree."""
        return {"detector": self.detector, "sha256": self.sha256, **self.margin._asdict(), "source": self.source}


@dataclass(frozen=True)
class Bundle:
    """A model ready to predict.

    Attributes:
      model: linen module.
      variables: float32 NumPy arrays, {"params"} and, for models with BatchNorm, {"batch_stats"}.
      classes: names of the characters the model was trained on, by class id.
      image_size: side of the square input in pixels.
      mean, std: per channel, of pixels in [0, 1].
      training: config, data set, images, weights, step, metrics and versions of the run.
      description: arguments of `create_model`, including the model's name.
      calibration: None if the bundle was not calibrated.
      enrolled: characters added after training; None for none.
      fit: how an image becomes the square, a key of `preprocessing.FITS`.
      crops: of whole pictures; None if the model was trained on images that are already cropped, and no detector was
        calibrated.
      origin: where the file was downloaded from, or the file that it was made from: "address", "sha256" and, for hf://,
        "file" and "revision"; empty if nothing was downloaded.
    """

    model: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: dict[str, Any]
    description: dict[str, Any]
    calibration: Calibration | None = None
    enrolled: Enrolled | None = None
    fit: str = "squash"
    crops: Crops | None = None
    origin: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all characters in the order of the probabilities: the classes, then the enrolled ones."""
        return self.classes + (self.enrolled.names if self.enrolled else ())

    @property
    def threshold(self) -> float | None:
        """The threshold of the calibration; None without one."""
        return self.calibration.threshold if self.calibration else None

    @property
    def num_features(self) -> int:
        """The length of an embedding."""
        return self.variables["params"][HEAD]["kernel"].shape[0]


def build_bundle(path: str, tree: dict[str, Any]) -> Bundle:
    """Returns the bundle of a tree; InputError with `path` if its parts do not fit together."""
    try:
        return _checked_bundle(tree)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is inconsistent: {first_line(error)}; export it again") from error


def _checked_bundle(tree: dict[str, Any]) -> Bundle:
    classes = checked_classes(tree.get("classes"))
    described, preprocessing = (checked_dict(tree, key) for key in ("model", "preprocessing"))
    size = checked_image_size(described, len(classes))
    if not is_exactly(preprocessing["size"], size):
        raise ValueError(f"preprocessing to {reprlib.repr(preprocessing['size'])} px for a model of {size} px")
    mean, std = checked_statistics(preprocessing)
    fit = checked_fit(preprocessing.get("fit"))
    model = create_model(**described)
    variables = checked_variables(abstract_variables(model, size), checked_dict(tree, "variables"))
    training, origin = checked_training(checked_dict(tree, "training")), checked_origin(tree.get("origin", {}))
    bundle = Bundle(model, variables, classes, size, mean, std, training, described, fit=fit, origin=origin)
    calibration = _checked_calibration(checked_dict(tree, "calibration")) if "calibration" in tree else None
    enrolled = _checked_enrolled(checked_dict(tree, "enrolled"), bundle, calibration) if "enrolled" in tree else None
    crops = checked_crops(checked_dict(tree, "crops")) if "crops" in tree else None
    return dataclasses.replace(bundle, calibration=calibration, enrolled=enrolled, crops=crops)


def checked_crops(described: dict[str, Any]) -> Crops:
    """Returns the crops of `Crops.to_tree`; ValueError or KeyError for another content."""
    detector, sha256 = described["detector"], described["sha256"]
    if not isinstance(detector, str) or not detector or not (hub.is_address(detector) or "/" not in detector):
        raise ValueError(f"the crops' detector is {reprlib.repr(detector)}; allowed: an address or a file name")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"the crops' sha256 is {reprlib.repr(sha256)}; allowed: 64 hexadecimal digits")
    for name, (lowest, highest) in MARGINS.items():
        value = described[name]
        if type(value) is not float or not lowest <= value <= highest:
            raise ValueError(f"the crops' {name} is {reprlib.repr(value)}; allowed: {lowest:g} to {highest:g}")
    margin = Margin(described["scale"], described["shift"], checked_fit(described["fit"]))
    return Crops(detector, sha256, margin, checked_dict(described, "source"))


def _checked_calibration(described: dict[str, Any]) -> Calibration:
    calibration = Calibration(**described)
    if not isinstance(calibration.source, dict):
        raise ValueError(f"the source of the calibration is {type(calibration.source).__name__}, not a dict")
    numbers = {name: described[name] for name in ("temperature", "threshold", "false_accept_rate")}
    if calibration.scale is not None or calibration.offset is not None:
        numbers |= {"scale": calibration.scale, "offset": calibration.offset}
    for name, value in numbers.items():
        if type(value) is not float or not np.isfinite(value) or not (value > 0 or name in MAY_BE_NEGATIVE):
            raise ValueError(f"the calibration's {name} is {reprlib.repr(value)}; allowed: a finite number above 0")
    return calibration


def _checked_enrolled(described: dict[str, Any], bundle: Bundle, calibration: Calibration | None) -> Enrolled:
    if calibration is None or calibration.scale is None:
        raise ValueError("it has enrolled characters, but no calibration for them")
    names, counts = checked_classes(described["names"]), described["counts"]
    both = sorted({*names} & {*bundle.classes})
    if both:
        raise ValueError(f"the enrolled character {reprlib.repr(both[0])} is one of the classes")
    embeddings = described["embeddings"]
    expected = (len(names), bundle.num_features)
    if not isinstance(embeddings, np.ndarray) or embeddings.shape != expected:
        raise ValueError(f"the enrolled embeddings are {getattr(embeddings, 'shape', None)}, expected {expected}")
    if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
        raise ValueError("the enrolled embeddings are not of unit norm")
    if not isinstance(counts, list) or len(counts) != len(names) or not all(type(n) is int and n > 0 for n in counts):
        raise ValueError(f"the counts of enrolled images are {reprlib.repr(counts)}")
    return Enrolled(names, embeddings, tuple(counts))
