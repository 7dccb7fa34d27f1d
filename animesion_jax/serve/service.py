"""The service behind page and endpoint: a model compiled once, and limits on its input."""

import dataclasses
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np
from PIL import Image

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.inference.explain import Explainer
from animesion_jax.inference.heads import Head, head_finder
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.preprocessing import resize

# Gradio uses the same unit.
MEGABYTE = 2**20
# Allowance for the headers of a form's parts.
FORM_BYTES = 2**20
# Heads that are named at once on a picture of many.
BATCH_SIZE = 8
# Most heads of a picture that are explained; a map takes longer than a name.
MAX_MAPS = 24

Answer = dict[str, Any]


class Explained(NamedTuple):
    """An answer with its image and heat maps, for the page.

    Attributes:
      answer: from `Service.answer`.
      image: RGB; None if the answer is an error.
      maps: (H, W) float32 heat maps in [0, 1] of the first `MAX_MAPS` heads, or of the image if there is no detector.
    """

    answer: Answer
    image: Image.Image | None
    maps: Sequence[np.ndarray]


class Service:
    """Recognises the characters on uploaded files.

    Attributes:
      recognizer: for one image at a time.
      explainer: for one image at a time.
      finder: of the heads on whole pictures; None if every file is an image of a face.
      max_bytes: largest file, in bytes.
      max_images: most files in a request.
      max_request_bytes: largest request: `max_images` files of `max_bytes` in a form.
      top_k: characters named for each image or head.
      limits: the limits in words.
    """

    def __init__(
        self,
        bundle: str,
        *,
        max_file_mb: float,
        max_images: int,
        top_k: int,
        detector: str | None = None,
        min_confidence: float | None = None,
    ):
        for name, value in {"max_file_mb": max_file_mb, "max_images": max_images, "top_k": top_k}.items():
            if not value > 0:
                raise InputError(f"--{name} is {value}; allowed: more than 0")
        loaded = load_bundle(bundle)
        # Share one copy on the device between all.
        loaded = dataclasses.replace(loaded, variables=jax.device_put(loaded.variables))
        self.recognizer = Recognizer(loaded, batch_size=1)
        self.explainer = Explainer(loaded)
        self.finder = head_finder(loaded, detector, min_confidence) if detector else None
        self._by_batch_size = {1: self.recognizer}
        if self.finder:
            self._by_batch_size[BATCH_SIZE] = Recognizer(loaded, BATCH_SIZE)
        self.max_bytes = int(max_file_mb * MEGABYTE)
        self.max_images = max_images
        self.max_request_bytes = max_images * self.max_bytes + FORM_BYTES
        self.top_k = top_k
        self.limits = f"up to {max_images} images at a time, each up to {max_file_mb:.3g} MB"
        # Two forward passes at once take as long as one after the other, but twice the memory. The lock is released
        # after each, so that a picture of many heads does not hold up the others.
        self._one_at_a_time = threading.Lock()
        # A detector takes one core.
        self._detections = threading.Semaphore(os.cpu_count() or 1)

    def compile(self) -> float:
        """Compiles the functions that requests need; returns the seconds it took."""
        start = time.monotonic()
        size = self.recognizer.bundle.image_size
        for batch_size, recognizer in self._by_batch_size.items():
            recognizer.probabilities(np.zeros((batch_size, size, size, 3), np.uint8))
        self.explainer.explain(np.zeros((size, size, 3), np.uint8))
        if self.finder:
            # The first call of a detector takes longer too, and shows whether it is one.
            self.finder.find(Image.new("RGB", (size, size)))
        return time.monotonic() - start

    def check_number(self, number: int) -> None:
        """Raises InputError unless a request has 1 to `max_images` images."""
        if not 1 <= number <= self.max_images:
            raise InputError(f"{number} images in one request; allowed: 1 to {self.max_images}")

    def answer(self, source: Path | BinaryIO, size: int, name: str) -> Answer:
        """Returns {"name", "unknown", "predictions", "seconds"} for an image file, otherwise {"name", "error"}.

        With a detector, {"name", "faces", "seconds"}, where "faces" is that of `Recognizer.predict_pictures`.

        Args:
          source: path or content of the uploaded file.
          size: of the file, in bytes.
          name: the sender's name for it, which is only shown.
        """
        return self._answer(source, size, name, max_maps=0).answer

    def explain(self, source: Path | BinaryIO, size: int, name: str) -> Explained:
        """Returns an answer with its image and heat maps; the arguments are those of `answer`."""
        return self._answer(source, size, name, MAX_MAPS)

    def _answer(self, source: Path | BinaryIO, size: int, name: str, max_maps: int) -> Explained:
        start = time.monotonic()
        try:
            image = self._read(source, size)
            heads = self._find(image)
        except InputError as error:
            return Explained({"name": name, "error": str(error)}, None, [])
        rows, maps = self._name([head.pixels for head in heads], max_maps)
        faces = [
            self.recognizer.describe(head.box, head.confidence, row, self.top_k)
            for head, row in zip(heads, rows, strict=True)
        ]
        described = {"faces": faces} if self.finder else {key: faces[0][key] for key in ("unknown", "predictions")}
        return Explained({"name": name, **described, "seconds": time.monotonic() - start}, image, maps)

    def _read(self, source: Path | BinaryIO, size: int) -> Image.Image:
        if size > self.max_bytes:
            advice = "scale it down" if self.finder else "scale it down, or crop it to the face"
            raise InputError(
                f"the file is too large: {size / MEGABYTE:.3g} MB ({size:,} bytes); allowed: "
                f"{self.max_bytes / MEGABYTE:.3g} MB ({self.max_bytes:,}); {advice}"
            )
        return read_image(source)

    def _find(self, image: Image.Image) -> list[Head]:
        """Returns the heads on an image; without a detector, the image as the only one."""
        if self.finder:
            with self._detections:
                return self.finder.find(image)
        bundle = self.recognizer.bundle
        return [Head((0, 0, *image.size), None, resize(image, bundle.image_size, bundle.fit))]

    def _name(self, crops: Sequence[np.ndarray], max_maps: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the (characters,) probabilities of (S, S, 3) uint8 crops, and heat maps of the first `max_maps`."""
        rows, maps = [], []
        for pixels in crops[:max_maps]:
            with self._one_at_a_time:
                row, heat = self.explainer.explain(pixels)
            rows.append(row)
            maps.append(heat)
        while len(rows) < len(crops):
            # Full batches only: padding costs as much as heads.
            size = max(each for each in self._by_batch_size if each <= len(crops) - len(rows))
            batch = np.stack(crops[len(rows) : len(rows) + size])
            with self._one_at_a_time:
                rows += list(self._by_batch_size[size].probabilities(batch))
        return rows, maps
