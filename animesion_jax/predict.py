"""Image files in, ranked characters out; needs no TensorFlow."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from animesion_jax.augment import normalize
from animesion_jax.errors import InputError
from animesion_jax.export import Bundle, load_bundle
from animesion_jax.images import FORMATS, is_image_name, read_image, resize, to_image

ImageLike = str | Path | Image.Image | np.ndarray
Prediction = dict[str, Any]


class Recognizer:
    """Names the characters on images.

    Attributes:
      bundle: the model and what belongs to it.
      batch_size: images per forward pass; the last batch is padded, so the model is compiled once.
    """

    def __init__(self, bundle: Bundle, batch_size: int = 32):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; allowed: 1 or more")
        self.bundle = bundle
        self.batch_size = batch_size
        self._variables = jax.device_put(bundle.variables)
        self._forward = jax.jit(
            lambda variables, images: jax.nn.softmax(
                bundle.model.apply(variables, normalize(images, bundle.mean, bundle.std))
            )
        )

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns (n, classes) float32 probabilities of (n, S, S, 3) uint8 images."""
        results = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            padding = np.zeros((self.batch_size - len(batch), *images.shape[1:]), np.uint8)
            padded = self._forward(self._variables, np.concatenate([batch, padding]))
            results.append(np.asarray(padded)[: len(batch)])
        return np.concatenate(results) if results else np.zeros((0, len(self.bundle.classes)), np.float32)

    def predict(self, images: Sequence[ImageLike] | ImageLike, top_k: int = 5) -> list[list[Prediction]]:
        """Returns, for each image, its `top_k` likeliest characters, likeliest first.

        Args:
          images: paths, Pillow images or (H, W, 3) uint8 arrays of any size; one of them counts as a list of one.
          top_k: how many characters, at least 1; no more than the model knows are returned.

        Returns:
          Lists of {"class": name, "class_id": int, "probability": float in [0, 1]}.

        Raises:
          InputError: an unreadable image.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; allowed: 1 or more")
        if isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
            images = [images]
        size = self.bundle.image_size
        pixels = [resize(to_image(image), size) for image in images]
        stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
        return [self._rank(row, top_k) for row in self.probabilities(stacked)]

    def _rank(self, probabilities: np.ndarray, top_k: int) -> list[Prediction]:
        return [
            {
                "class": self.bundle.classes[class_id],
                "class_id": int(class_id),
                "probability": float(probabilities[class_id]),
            }
            for class_id in np.argsort(-probabilities, kind="stable")[:top_k]
        ]


def load(path: str, batch_size: int = 32) -> Recognizer:
    """Returns a recognizer of the bundle in a file: `load("b16.msgpack").predict(images, top_k=5)`."""
    return Recognizer(load_bundle(path), batch_size)


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files given and, sorted, the image files anywhere below the folders given.

    Files that were named are kept whatever they are; in folders only names of `images.FORMATS` count, and
    none that explain has written.
    """
    found = []
    for name in paths:
        path = os.path.expanduser(name)
        if os.path.isdir(path):
            inside = [file for file in Path(path).rglob("*") if is_image_name(file.name) and file.is_file()]
            if not inside:
                raise InputError(f"folder {path} holds no image; allowed: files or folders of {', '.join(FORMATS)}")
            found += sorted(inside)
        else:
            found.append(Path(path))
    return found


def predict_files(recognizer: Recognizer, files: Sequence[Path], top_k: int) -> Iterator[dict[str, Any]]:
    """Yields {"path", "predictions"} for each file in order, or {"path", "error"} for an unreadable one."""
    for start in range(0, len(files), recognizer.batch_size):
        chunk = files[start : start + recognizer.batch_size]
        images, errors = {}, {}
        for file in chunk:
            try:
                images[file] = resize(read_image(file), recognizer.bundle.image_size)
            except InputError as error:
                errors[file] = str(error)
        ranked = dict(zip(images, recognizer.predict(list(images.values()), top_k), strict=True))
        for file in chunk:
            if file in errors:
                yield {"path": str(file), "error": errors[file]}
            else:
                yield {"path": str(file), "predictions": ranked[file]}
