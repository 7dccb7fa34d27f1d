"""The recognizer of an ONNX file that `export` wrote, on ONNX Runtime."""

import os
from pathlib import Path

import numpy as np

from animesion_jax import hub
from animesion_jax.bundle import Described, read_metadata
from animesion_jax.errors import InputError, command, first_line, install
from animesion_jax.files import expand_home
from animesion_jax.inference.namer import Namer

try:
    import onnxruntime
except ModuleNotFoundError as error:  # the extra [detect] brings it too
    raise InputError(f"this needs the package onnxruntime; install it: {install('onnx')}") from error

# The graph's input and output, as docs/export.md describes them, and the types of the input by the metadata's
# "normalization".
INPUT, OUTPUT = "images", "probabilities"
TYPES = {"inside": "tensor(uint8)", "outside": "tensor(float)"}


class OnnxRecognizer(Namer):
    """Names the characters on images as `Recognizer` does; has no embeddings."""

    # ONNX Runtime takes any number of images.
    pads = False

    def __init__(self, path: str, batch_size: int = 32):
        """Opens a file.

        Args:
          path: a local file or an address, as in `load`.
          batch_size: images per forward pass, 1 or more.

        Raises:
          InputError: no such file, not a whole file that `export` wrote, or a failed download.
        """
        self._path = path
        self._session = _open(path)
        bundle, self._normalizes = _described(path, self._session)
        super().__init__(bundle, batch_size)
        self.probabilities(np.zeros((1, bundle.image_size, bundle.image_size, 3), np.uint8))  # fails here, not later

    def _forward(self, images: np.ndarray) -> np.ndarray:
        inputs = images if self._normalizes else self._normalized(images)
        try:
            (outputs,) = self._session.run([OUTPUT], {INPUT: inputs})
        except Exception as error:  # the runtime's errors have no other type in common
            raise InputError(f"{self._path} cannot be run ({first_line(error)}); export it again") from error
        if outputs.shape != (len(images), len(self.bundle.names)) or not np.isfinite(outputs).all():
            raise InputError(f"{self._path} gives no finite probability for each class; export it again")
        return outputs

    def _normalized(self, images: np.ndarray) -> np.ndarray:
        mean, std = (np.asarray(values, np.float32) for values in (self.bundle.mean, self.bundle.std))
        return (images / np.float32(255) - mean) / std


def _open(path: str) -> onnxruntime.InferenceSession:
    hub.check_scheme(path)
    file = Path(hub.fetch(path).path if hub.is_address(path) else expand_home(path))
    if not file.is_file():
        export = command("export", bundle="mine.msgpack", format="onnx", output=path)
        raise InputError(f"no ONNX file at {file}; write one: {export}")
    try:
        return onnxruntime.InferenceSession(os.fspath(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no other type in common
        raise InputError(f"{path} cannot be opened: {first_line(error)}") from error


def _described(path: str, session: onnxruntime.InferenceSession) -> tuple[Described, bool]:
    """Returns the metadata, and whether the graph normalises its input."""
    texts = session.get_modelmeta().custom_metadata_map
    try:
        described, place = read_metadata(texts), texts["normalization"]
        size = described.image_size
        (given,) = session.get_inputs()
        found = given.name, given.type, given.shape[1:]
        if place not in TYPES or found != (INPUT, TYPES[place], [size, size, 3]):
            raise ValueError(f"its input is {found}")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not a model that animesion export --format=onnx wrote ({first_line(error)}); allowed: one of "
            "those, or a msgpack bundle; a detector is for --detector"
        ) from error
    return described, place == "inside"
