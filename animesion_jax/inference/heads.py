"""Cuts the heads out of whole pictures, as a bundle's model expects them."""

import logging
from typing import NamedTuple

import numpy as np
from PIL import Image

from animesion_jax.bundle import Bundle, ModelMetadata
from animesion_jax.detection import AUTO, DEFAULT, Detector, load_detector
from animesion_jax.errors import InputError, escape
from animesion_jax.preprocessing import Box, Margin, crop, resize

# Most heads of a picture: an unsuitable detector or threshold may give thousands, whose crops would take gigabytes.
MAX_HEADS = 1000

log = logging.getLogger("animesion_jax")


class Head(NamedTuple):
    """A head on a picture.

    Attributes:
      box: of the detector, in pixels of the picture.
      confidence: of the detector, from 0 to 1; None if the whole picture stands for a head.
      pixels: (S, S, 3) uint8, the input of the model.
    """

    box: Box
    confidence: float | None
    pixels: np.ndarray


class HeadFinder:
    """Finds heads and cuts them out.

    Attributes:
      detector: finds the boxes.
      margin: makes crops of the boxes.
    """

    def __init__(self, detector: Detector, margin: Margin, size: int):
        """Keeps the arguments; `size` is the side of a model's square input in pixels."""
        self.detector, self.margin, self._size = detector, margin, size

    def find(self, image: Image.Image) -> list[Head]:
        """Returns the heads on an RGB image, the most confident first; at most `MAX_HEADS`."""
        found = self.detector(image)[:MAX_HEADS]
        return [Head(each.box, each.confidence, self._pixels(image, each.box)) for each in found]

    def crop(self, image: Image.Image, box: Box) -> Image.Image:
        """Returns the part of an image around a detector's box."""
        return crop(image, box, self.margin)

    def _pixels(self, image: Image.Image, box: Box) -> np.ndarray:
        """Returns `crop` as the (S, S, 3) uint8 input of the model."""
        return resize(self.crop(image, box), self._size, self.margin.fit)


def choose_detector(
    bundle: Bundle | ModelMetadata, detector: str = AUTO, min_confidence: float | None = None
) -> Detector:
    """Returns a detector.

    Args:
      bundle: of the model.
      detector: a file or an address, as in `load_detector`, or `AUTO` for the bundle's detector, or the default one if
        the bundle names none.
      min_confidence: as in `load_detector`.

    Raises:
      InputError: see `load_detector`; or the bundle's detector is a local file, of which it has the name only.
    """
    if detector == AUTO:
        detector = bundle.crops.detector if bundle.crops else DEFAULT
        if "://" not in detector:
            raise InputError(
                f"the bundle's detector is the local file {detector}; give its path: --detector=FOLDER/{detector}"
            )
    return load_detector(detector, min_confidence)


def head_finder(
    bundle: Bundle | ModelMetadata, detector: str = AUTO, min_confidence: float | None = None
) -> HeadFinder:
    """Returns the finder for a bundle's model, with the bundle's margin if it has one for this detector.

    Arguments and errors are those of `choose_detector`.
    """
    chosen, crops = choose_detector(bundle, detector, min_confidence), bundle.crops
    if crops and crops.sha256 == chosen.sha256:
        return HeadFinder(chosen, crops.margin, bundle.image_size)
    known = f"it has one for {escape(crops.detector)}, SHA-256 {crops.sha256[:8]}" if crops else "it has none"
    log.warning(
        "the bundle has no margin for %s (%s): the boxes are cut as they are, which may cost accuracy; find the margin "
        "with animesion calibrate --detector=... --pictures=FOLDER", escape(chosen.name), known,
    )  # fmt: skip
    return HeadFinder(chosen, Margin(1.0, 0.0, bundle.fit), bundle.image_size)
