"""The crop around the one head on a whole picture."""

from typing import Any, NamedTuple

from PIL import Image

from animesion_jax.detection import Detector
from animesion_jax.preprocessing import Box, Margin, crop_box


class HeadCrops(NamedTuple):
    """How whole pictures become crops.

    Attributes:
      detector: finds the heads.
      margin: how a box becomes a crop; its `fit` is for training.
      min_confidence: that the detector was loaded with; 0 for its own threshold.
    """

    detector: Detector
    margin: Margin
    min_confidence: float

    def boxes(self, image: Image.Image) -> list[Box]:
        """Returns the crops of the heads on an RGB image, as boxes in its pixels."""
        return [crop_box(image.size, each.box, self.margin) for each in self.detector(image)]

    def describe(self) -> dict[str, Any]:
        """Returns what the pixels of the crops depend on, besides the picture."""
        return {
            "detector": self.detector.name,
            "sha256": self.detector.sha256,
            "min_confidence": float(self.min_confidence),
            "scale": float(self.margin.scale),
            "shift": float(self.margin.shift),
        }
