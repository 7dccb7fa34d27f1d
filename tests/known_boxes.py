"""A detector that knows the boxes of pictures by their first pixel."""

import threading
from pathlib import Path

from PIL import Image

from animesion_jax.detection import Detection
from animesion_jax.preprocessing import Box

# Confidence of the first box of a picture, and how much lower each next one is.
FIRST, STEP = 0.875, 0.125


class KnownBoxes:
    """A detector; see `Detector`.

    Attributes:
      boxes: those of each picture, by its first pixel.
      calls: number of pictures it was asked about.
    """

    name, sha256 = "boxes.onnx", "a" * 64

    def __init__(self):
        self.boxes: dict[tuple[int, int, int], list[Box]] = {}
        self.calls, self._lock = 0, threading.Lock()

    def __call__(self, image: Image.Image) -> list[Detection]:
        """Returns the boxes of a picture."""
        with self._lock:
            self.calls += 1
        boxes = self.boxes[image.getpixel((0, 0))]
        return [Detection(box, FIRST - STEP * place) for place, box in enumerate(boxes)]

    def write(self, path: Path, image: Image.Image, boxes: list[Box]) -> Path:
        """Writes an RGB picture that has these boxes; returns its path."""
        key = (*divmod(len(self.boxes), 256), 7)
        self.boxes[key] = boxes
        image.putpixel((0, 0), key)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    def load(self, name: str, min_confidence: float | None = None) -> "KnownBoxes":
        """Stands in for `load_detector`; keeps the arguments."""
        self.loaded = (name, min_confidence)
        return self
