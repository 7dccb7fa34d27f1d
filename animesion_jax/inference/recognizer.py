"""The recognizer: ranks characters on images; needs no TensorFlow."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from animesion_jax.bundle import Bundle, load_bundle
from animesion_jax.errors import InputError
from animesion_jax.images import Content, is_content, read_image, to_image
from animesion_jax.inference.batches import Cut, apply_to_crops, apply_to_files
from animesion_jax.inference.forward import apply_to_pixels, character_probabilities
from animesion_jax.inference.heads import Head, HeadFinder
from animesion_jax.preprocessing import Box, resize

# Most pictures whose crops wait in memory; each may have hundreds.
PICTURES_AHEAD = 2 * (os.cpu_count() or 1)

ImageLike = str | Path | Content | Image.Image | np.ndarray
Prediction = dict[str, Any]


class Recognizer:
    """Recognises the characters on images.

    Attributes:
      bundle: the bundle.
      batch_size: images per forward pass. The last batch is padded, so that the model is compiled once.
    """

    def __init__(self, bundle: Bundle, batch_size: int = 32):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; allowed: 1 or more")
        self.bundle = bundle
        self.batch_size = batch_size
        self._variables = jax.device_put(bundle.variables)
        self._probabilities = jax.jit(partial(character_probabilities, bundle))
        self._embeddings = jax.jit(lambda *arguments: apply_to_pixels(bundle, *arguments)[1])

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the (n, characters) float32 probabilities of `bundle.names` for (n, S, S, 3) uint8 images."""
        return self._in_batches(self._probabilities, images, len(self.bundle.names))

    def embeddings(self, images: np.ndarray) -> np.ndarray:
        """Returns the (n, features) float32 embeddings of unit norm for (n, S, S, 3) uint8 images."""
        return self._in_batches(self._embeddings, images, self.bundle.num_features)

    def _in_batches(self, function: Callable[..., jax.Array], images: np.ndarray, width: int) -> np.ndarray:
        results = [np.zeros((0, width), np.float32)]
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            padding = np.zeros((self.batch_size - len(batch), *images.shape[1:]), np.uint8)
            padded = function(self._variables, np.concatenate([batch, padding]))
            results.append(np.asarray(padded)[: len(batch)])
        return np.concatenate(results)

    def predict(self, images: Sequence[ImageLike] | ImageLike, top_k: int = 5) -> list[list[Prediction]]:
        """Returns the `top_k` likeliest characters of each image, likeliest first.

        Args:
          images: paths, bytes or binary file objects of image files, Pillow images or (H, W, 3) uint8 arrays, of any
            size; a list of them or a single one. A file object is read from its start, or from its
            position if it cannot seek.
          top_k: number of characters, at least 1; at most all that the bundle knows are returned.

        Returns:
          Lists of {"class": name, "class_id": int, "probability": float in [0, 1]}.

        Raises:
          InputError: an unreadable image.
        """
        a_list = isinstance(images, Iterable) and not isinstance(images, str | Image.Image) and not is_content(images)
        if not a_list or (isinstance(images, np.ndarray) and images.ndim != 4):
            images = [images]
        size = self.bundle.image_size
        pixels = [resize(to_image(image), size, self.bundle.fit) for image in images]
        stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
        return [self.rank(row, top_k) for row in self.probabilities(stacked)]

    def rank(self, probabilities: np.ndarray, top_k: int) -> list[Prediction]:
        """Returns the `top_k` likeliest characters of (characters,) probabilities; see `predict`."""
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; allowed: 1 or more")
        return [
            {"class": self.bundle.names[place], "class_id": int(place), "probability": float(probabilities[place])}
            for place in np.argsort(-probabilities, kind="stable")[:top_k]
        ]

    def is_unknown(self, predictions: Sequence[Prediction]) -> bool | None:
        """Returns whether an image shows none of the bundle's characters; None without calibration.

        Args:
          predictions: of one image, from `predict`.
        """
        calibration = self.bundle.calibration
        return None if calibration is None else predictions[0]["probability"] < calibration.threshold

    def predict_files(self, files: Sequence[Path], top_k: int = 5) -> Iterator[dict[str, Any]]:
        """Yields {"path", "unknown", "predictions"} for each file in order, or {"path", "error"} if it is unreadable.

        "unknown" comes from `is_unknown`, "predictions" from `predict`.
        """
        for file, output in self._apply_to_files(self._probabilities, files):
            if isinstance(output, InputError):
                yield {"path": str(file), "error": str(output)}
            else:
                ranked = self.rank(output, top_k)
                yield {"path": str(file), "unknown": self.is_unknown(ranked), "predictions": ranked}

    def predict_pictures(
        self, files: Sequence[Path], finder: HeadFinder, top_k: int = 5, *, whole_if_none: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yields {"path", "faces"} for each file in order, or {"path", "error"} if it is unreadable.

        Heads of several pictures share a batch.

        Args:
          files: pictures.
          finder: from `head_finder`.
          top_k: characters per head.
          whole_if_none: name a picture without a head as a whole; its box is the picture's, its confidence None.

        Yields:
          "faces" has a dict for each head, the most confident first: "box" (left, top, right, bottom in pixels),
          "confidence", and "unknown" and "predictions" as in `predict_files`.
        """
        for file, about, outputs in self._apply_to_heads(self._probabilities, files, finder, whole_if_none):
            if isinstance(about, InputError):
                yield {"path": str(file), "error": str(about)}
            else:
                faces = [self.describe(*each, row, top_k) for each, row in zip(about, outputs, strict=True)]
                yield {"path": str(file), "faces": faces}

    def describe(self, box: Box, confidence: float | None, probabilities: np.ndarray, top_k: int) -> dict[str, Any]:
        """Returns an entry of "faces" of `predict_pictures`, given a head's (characters,) probabilities."""
        ranked = self.rank(probabilities, top_k)
        return {
            "box": list(box), "confidence": confidence, "unknown": self.is_unknown(ranked), "predictions": ranked
        }  # fmt: skip

    def embed_files(self, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | InputError]]:
        """Yields each file in order with its (features,) float32 embedding or the error of reading it."""
        return self._apply_to_files(self._embeddings, files)

    def embed_pictures(
        self, files: Sequence[Path], finder: HeadFinder
    ) -> Iterator[tuple[Path, list[tuple[Box, float | None]] | InputError, list[np.ndarray]]]:
        """Yields each file in order with (box, confidence) of each head, or an error, and the heads' embeddings."""
        return self._apply_to_heads(self._embeddings, files, finder, False)

    def _apply_to_heads(
        self, function: Callable[..., jax.Array], files: Sequence[Path], finder: HeadFinder, whole_if_none: bool
    ) -> Iterator[tuple[Path, list[tuple[Box, float | None]] | InputError, list[np.ndarray]]]:
        def cut(file: Path) -> Cut:
            try:
                image = read_image(file)
            except InputError as error:
                return Cut([], error)
            heads = finder.find(image)
            if whole_if_none and not heads:
                pixels = resize(image, self.bundle.image_size, self.bundle.fit)
                heads = [Head((0, 0, *image.size), None, pixels)]
            return Cut([head.pixels for head in heads], [(head.box, head.confidence) for head in heads])

        forward = partial(function, self._variables)
        return apply_to_crops(forward, files, cut, self.bundle.image_size, self.batch_size, PICTURES_AHEAD)

    def _apply_to_files(
        self, function: Callable[..., jax.Array], files: Sequence[Path]
    ) -> Iterator[tuple[Path, np.ndarray | InputError]]:
        forward = partial(function, self._variables)
        return apply_to_files(forward, files, self.bundle.image_size, self.bundle.fit, self.batch_size)


def load(path: str | os.PathLike, batch_size: int = 32) -> Recognizer:
    """Returns the recognizer of a bundle: `load("b16.msgpack").predict(images, top_k=5)`.

    Args:
      path: a file or an address, as in `load_bundle`.
      batch_size: images per forward pass, 1 or more.

    Raises:
      InputError: see `load_bundle`.
    """
    return Recognizer(load_bundle(os.fspath(path)), batch_size)
