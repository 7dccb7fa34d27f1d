"""The service behind page and endpoint: a model compiled once, and limits on its input."""

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from PIL import Image

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.inference.explain import Explainer
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.preprocessing import resize

# Gradio uses the same unit.
MEGABYTE = 2**20
# Allowance for the headers of a form's parts.
FORM_BYTES = 2**20

Answer = dict[str, Any]


class Service:
    """Recognises the characters on uploaded files.

    Attributes:
      recognizer: for one image at a time.
      explainer: for one image at a time.
      max_bytes: largest file, in bytes.
      max_images: most files in a request.
      max_request_bytes: largest request: `max_images` files of `max_bytes` in a form.
      top_k: characters named for each image.
      limits: the limits in words.
    """

    def __init__(self, bundle: str, *, max_file_mb: float, max_images: int, top_k: int):
        for name, value in {"max_file_mb": max_file_mb, "max_images": max_images, "top_k": top_k}.items():
            if not value > 0:
                raise InputError(f"--{name} is {value}; allowed: more than 0")
        loaded = load_bundle(bundle)
        # Share one copy on the device between both.
        loaded = dataclasses.replace(loaded, variables=jax.device_put(loaded.variables))
        self.recognizer = Recognizer(loaded, batch_size=1)
        self.explainer = Explainer(loaded)
        self.max_bytes = int(max_file_mb * MEGABYTE)
        self.max_images = max_images
        self.max_request_bytes = max_images * self.max_bytes + FORM_BYTES
        self.top_k = top_k
        self.limits = f"up to {max_images} images at a time, each up to {max_file_mb:.3g} MB"
        # Two images at once take as long as one after the other, but twice the memory.
        self._one_at_a_time = threading.Lock()

    def compile(self) -> float:
        """Compiles the functions that requests need; returns the seconds it took."""
        start = time.monotonic()
        size = self.recognizer.bundle.image_size
        blank = np.zeros((1, size, size, 3), np.uint8)
        self.recognizer.probabilities(blank)
        self.explainer.explain(blank[0])
        return time.monotonic() - start

    def check_number(self, number: int) -> None:
        """Raises InputError unless a request has 1 to `max_images` images."""
        if not 1 <= number <= self.max_images:
            raise InputError(f"{number} images in one request; allowed: 1 to {self.max_images}")

    def answer(
        self, source: Path | BinaryIO, size: int, name: str, explain: bool = False
    ) -> tuple[Answer, Image.Image | None, np.ndarray | None]:
        """Returns an answer, the image, and its (H, W) heat map if `explain` is set; on an error both are None.

        The answer is {"name", "unknown", "predictions", "seconds"} for an image file, otherwise {"name", "error"}.

        Args:
          source: path or content of the uploaded file.
          size: of the file, in bytes.
          name: the sender's name for it, which is only shown.
          explain: whether to compute the heat map.
        """
        start = time.monotonic()
        try:
            if size > self.max_bytes:
                raise InputError(
                    f"the file is too large: {size / MEGABYTE:.3g} MB ({size:,} bytes); allowed: "
                    f"{self.max_bytes / MEGABYTE:.3g} MB ({self.max_bytes:,}); scale it down, or crop it to the face"
                )
            image = read_image(source)
        except InputError as error:
            return {"name": name, "error": str(error)}, None, None
        bundle = self.recognizer.bundle
        pixels = resize(image, bundle.image_size, bundle.fit)
        with self._one_at_a_time:
            if explain:
                probabilities, heat = self.explainer.explain(pixels)
            else:
                probabilities, heat = self.recognizer.probabilities(pixels[None])[0], None
        ranked = self.recognizer.rank(probabilities, self.top_k)
        unknown = self.recognizer.is_unknown(ranked)
        seconds = time.monotonic() - start
        return {"name": name, "unknown": unknown, "predictions": ranked, "seconds": seconds}, image, heat
