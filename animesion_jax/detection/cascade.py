"""OpenCV's cascades of simple features, such as nagadomi's lbpcascade_animeface.xml."""

import math
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from animesion_jax.detection.detector import Detection
from animesion_jax.errors import InputError, install

# The settings of the cascade's author: https://github.com/nagadomi/lbpcascade_animeface.
SCALE_FACTOR = 1.1
MIN_NEIGHBORS = 5
MIN_SIDE = 24
# Larger pictures are reduced by a whole number. On 89 megapixels the cascade would take a gigabyte and minutes, to find
# heads of 24 pixels.
MAX_PIXELS = 2**22


class Cascade:
    """A cascade in OpenCV's XML format; see `Detector`.

    A cascade has no probabilities. The confidence of a box that merges n windows is n / (n + MIN_NEIGHBORS), at least
    1/2.
    """

    def __init__(self, path: Path, name: str, sha256: str, min_confidence: float | None = None):
        """Reads the file; see `load_detector` for the arguments and the errors."""
        self.name, self.sha256 = name, sha256
        self._path, self._min_confidence = path, min_confidence or 0.0
        # OpenCV's objects have a state: each thread needs its own.
        self._by_thread = threading.local()
        self._by_thread.classifier = _read(path)

    def __call__(self, image: Image.Image) -> list[Detection]:
        """Returns the heads on an RGB image; see `Detector`."""
        if not hasattr(self._by_thread, "classifier"):
            self._by_thread.classifier = _read(self._path)
        factor = math.ceil(math.sqrt(image.width * image.height / MAX_PIXELS))
        # OpenCV's grey, not Pillow's, whose rounding differs.
        grey = cv2.equalizeHist(cv2.cvtColor(np.asarray(image.reduce(factor)), cv2.COLOR_RGB2GRAY))
        boxes, neighbors = self._by_thread.classifier.detectMultiScale2(
            grey, scaleFactor=SCALE_FACTOR, minNeighbors=MIN_NEIGHBORS, minSize=(MIN_SIDE, MIN_SIDE)
        )
        found = []
        for (x, y, width, height), n in zip(np.int64(boxes) * factor, np.ravel(neighbors), strict=True):
            # The last column and row of a reduced picture may stand for fewer pixels.
            box = int(x), int(y), min(int(x + width), image.width), min(int(y + height), image.height)
            found.append(Detection(box, float(n / (n + MIN_NEIGHBORS))))
        kept = [each for each in found if each.confidence >= self._min_confidence]
        # OpenCV's own threads find boxes of equal confidence in any order.
        return sorted(kept, key=lambda each: (-each.confidence, each.box))


def _read(path: Path) -> "cv2.CascadeClassifier":
    if not hasattr(cv2, "CascadeClassifier"):
        raise InputError(
            f"OpenCV {cv2.__version__} has no cascades; allowed: opencv-python-headless 4.11 up to 5; install it: "
            f"{install('detect')}"
        )
    try:
        classifier = cv2.CascadeClassifier(str(path))
    except (cv2.error, SystemError) as error:  # OpenCV 4.14 raises the second for a file that is not XML
        raise InputError(f"{path} is not a cascade; allowed: OpenCV's XML, such as lbpcascade_animeface.xml") from error
    if classifier.empty():
        raise InputError(f"{path} is not a cascade; allowed: OpenCV's XML, such as lbpcascade_animeface.xml")
    return classifier
