"""The recognizer: ranks characters on images; needs no TensorFlow."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np

from animesion_jax.bundle import Bundle, is_onnx, load_bundle
from animesion_jax.errors import InputError
from animesion_jax.inference.forward import apply_to_pixels, character_probabilities
from animesion_jax.inference.heads import HeadFinder
from animesion_jax.inference.namer import Namer
from animesion_jax.preprocessing import Box


class Recognizer(Namer):
    """Recognises the characters on images by JAX; see `Namer`. The model is compiled once, for a full batch."""

    pads = True

    def __init__(self, bundle: Bundle, batch_size: int = 32):
        super().__init__(bundle, batch_size)
        self._variables = jax.device_put(bundle.variables)
        self._probabilities = jax.jit(partial(character_probabilities, bundle))
        self._embeddings = jax.jit(lambda *arguments: apply_to_pixels(bundle, *arguments)[1])

    def _forward(self, images: np.ndarray) -> jax.Array:
        return self._probabilities(self._variables, images)

    def _embed(self, images: np.ndarray) -> jax.Array:
        return self._embeddings(self._variables, images)

    def embeddings(self, images: np.ndarray) -> np.ndarray:
        """Returns the (n, features) float32 embeddings of unit norm for (n, S, S, 3) uint8 images."""
        return self._in_batches(self._embed, images, self.bundle.num_features)

    def embed_files(self, files: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | InputError]]:
        """Yields each file in order with its (features,) float32 embedding or the error of reading it."""
        return self._apply_to_files(self._embed, files)

    def embed_pictures(
        self, files: Sequence[Path], finder: HeadFinder
    ) -> Iterator[tuple[Path, list[tuple[Box, float | None]] | InputError, list[np.ndarray]]]:
        """Yields each file in order with (box, confidence) of each head, or an error, and the heads' embeddings."""
        return self._apply_to_heads(self._embed, files, finder)


def load(path: str | os.PathLike, batch_size: int = 32) -> Namer:
    """Returns the recognizer of a bundle: `load("b16.msgpack").predict(images, top_k=5)`.

    Args:
      path: a file or an address, as in `load_bundle`, or one of *.onnx. An `OnnxRecognizer` has no embeddings.
      batch_size: images per forward pass, 1 or more.

    Raises:
      InputError: see `load_bundle` and `OnnxRecognizer`.
    """
    path = os.fspath(path)
    if is_onnx(path):
        from animesion_jax.inference.onnx_recognizer import OnnxRecognizer

        return OnnxRecognizer(path, batch_size)
    return Recognizer(load_bundle(path), batch_size)
