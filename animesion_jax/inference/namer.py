"""The base class of recognizers: images in batches, and ranked characters."""

import abc
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from animesion_jax.bundle import Bundle, ModelMetadata
from animesion_jax.errors import InputError
from animesion_jax.images import Content, is_content, read_image, to_image
from animesion_jax.inference.batches import Cut, Function, apply_to_crops, apply_to_files
from animesion_jax.inference.heads import Head, HeadFinder
from animesion_jax.preprocessing import Box, resize

# Most pictures whose crops wait in memory; each may have hundreds.
PICTURES_AHEAD = 2 * (os.cpu_count() or 1)

ImageLike = str | Path | Content | Image.Image | np.ndarray
Prediction = dict[str, Any]


class Namer(abc.ABC):
    """Recognises the characters on images.

    Attributes:
      bundle: names, preprocessing, threshold and crops of the model.
      batch_size: images per forward pass.
      pads: whether zeros fill up a batch, for a model that is compiled for one size of a batch.
    """

    pads: bool

    def __init__(self, bundle: Bundle | ModelMetadata, batch_size: int = 32):
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; allowed: 1 or more")
        self.bundle = bundle
        self.batch_size = batch_size

    @abc.abstractmethod
    def _forward(self, images: np.ndarray) -> jax.Array | np.ndarray:
        """Returns the (n, characters) float32 probabilities for n images as in `probabilities`, at most a batch."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the (n, characters) float32 probabilities of `bundle.names` for (n, S, S, 3) uint8 images."""
        return self._in_batches(self._forward, images, len(self.bundle.names))

    def _in_batches(self, function: Function, images: np.ndarray, width: int) -> np.ndarray:
        results = [np.zeros((0, width), np.float32)]
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            count = len(batch)
            if self.pads:
                batch = np.concatenate([batch, np.zeros((self.batch_size - count, *images.shape[1:]), np.uint8)])
            results.append(np.asarray(function(batch))[:count])
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
        threshold = self.bundle.threshold
        return None if threshold is None else predictions[0]["probability"] < threshold

    def predict_files(self, files: Sequence[Path], top_k: int = 5) -> Iterator[dict[str, Any]]:
        """Yields {"path", "unknown", "predictions"} for each file in order, or {"path", "error"} if it is unreadable.

        "unknown" comes from `is_unknown`, "predictions" from `predict`.
        """
        for file, output in self._apply_to_files(self._forward, files):
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
        for file, about, outputs in self._apply_to_heads(self._forward, files, finder, whole_if_none):
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

    def _apply_to_heads(
        self, function: Function, files: Sequence[Path], finder: HeadFinder, whole_if_none: bool = False
    ) -> Iterator[tuple[Path, list[tuple[Box, float | None]] | InputError, list[np.ndarray]]]:
        def cut(file: Path) -> Cut:
            try:
                image = read_image(file)
                heads = finder.find(image)
            except InputError as error:
                return Cut([], error)
            if whole_if_none and not heads:
                pixels = resize(image, self.bundle.image_size, self.bundle.fit)
                heads = [Head((0, 0, *image.size), None, pixels)]
            return Cut([head.pixels for head in heads], [(head.box, head.confidence) for head in heads])

        size = self.bundle.image_size
        return apply_to_crops(function, files, cut, size, self.batch_size, PICTURES_AHEAD, pad=self.pads)

    def _apply_to_files(
        self, function: Function, files: Sequence[Path]
    ) -> Iterator[tuple[Path, np.ndarray | InputError]]:
        size, fit = self.bundle.image_size, self.bundle.fit
        return apply_to_files(function, files, size, fit, self.batch_size, pad=self.pads)
