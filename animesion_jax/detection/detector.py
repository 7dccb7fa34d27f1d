"""The interface of detectors: a callable from an image to boxes, with a name."""

from typing import NamedTuple, Protocol

from PIL import Image

from animesion_jax.preprocessing import Box


class Detection(NamedTuple):
    """A head on a picture.

    Attributes:
      box: in pixels of the image that was given, inside the image and at least one pixel wide and high.
      confidence: from 0 to 1.
    """

    box: Box
    confidence: float


class Detector(Protocol):
    """Finds the heads on an image; may be called by several threads at once.

    Attributes:
      name: public name: an address without secrets, or the name of a local file without its folder.
      sha256: of the detector's file, in hexadecimal digits.
    """

    name: str
    sha256: str

    def __call__(self, image: Image.Image) -> list[Detection]:
        """Returns the heads on an RGB image of any size, the most confident first."""
        ...
