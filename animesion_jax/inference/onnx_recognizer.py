"""The recognizer of an ONNX file that `export` wrote, on ONNX Runtime."""

import re
from pathlib import Path

import numpy as np

from animesion_jax import hub
from animesion_jax.bundle import ModelMetadata, read_metadata
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
# What the runtime's errors start with.
PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?")
EXPORT = command("export", bundle="mine.msgpack", format="onnx", output="mine.onnx")


class OnnxRecognizer(Namer):
    """Recognises the characters on images by ONNX Runtime, on the CPU; see `Namer`. It has no embeddings."""

    pads = False

    def __init__(self, path: str, batch_size: int = 32):
        """Opens a file.

        Args:
          path: a local file or an address.
          batch_size: images per forward pass, 1 or more.

        Raises:
          InputError: no such file, not a whole file that `export` wrote, or a failed download; or the extra [onnx] is
            missing.
        """
        self._path = path
        self._session = _open(path)
        bundle, self._normalizes = _described(path, self._session)
        super().__init__(bundle, batch_size)

    def _forward(self, images: np.ndarray) -> np.ndarray:
        inputs = images if self._normalizes else self._normalized(images)
        try:
            (outputs,) = self._session.run([OUTPUT], {INPUT: inputs})
        except Exception as error:  # the runtime's errors have no other type in common
            raise InputError(f"{self._path} fails ({_reason(error)}); export it again") from error
        if not np.isfinite(outputs).all():
            raise InputError(f"{self._path} is damaged: a probability is not finite; export it again")
        return outputs

    def _normalized(self, images: np.ndarray) -> np.ndarray:
        mean, std = (np.asarray(values, np.float32) for values in (self.bundle.mean, self.bundle.std))
        return (images / np.float32(255) - mean) / std


def _open(path: str) -> onnxruntime.InferenceSession:
    hub.check_scheme(path)
    file = Path(hub.fetch(path).path if hub.is_address(path) else expand_home(path))
    if not file.is_file():
        raise InputError(f"no ONNX file at {file}; write one: {EXPORT}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    # The runtime's threads may not wait in a loop: other threads decode and detect on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no other type in common
        raise InputError(
            f"ONNX Runtime cannot open {path} ({_reason(error)}); export it again; weights above 2 GB are in a file "
            f"{file.name}.data beside it"
        ) from error


def _described(path: str, session: onnxruntime.InferenceSession) -> tuple[ModelMetadata, bool]:
    """Returns the metadata, and whether the graph normalises its input."""
    texts = session.get_modelmeta().custom_metadata_map
    try:
        missing = [key for key in ("classes", "preprocessing", "normalization") if key not in texts]
        if missing:
            raise ValueError(f"its metadata has no {', '.join(missing)}")
        described, place = read_metadata(texts), texts["normalization"]
        size = described.image_size
        given = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
        expected = [(INPUT, TYPES.get(place), [size, size, 3])]
        if given != expected:
            raise ValueError(f"its input is {given}, expected {expected}")
        returned = {each.name: (each.type, each.shape[1:]) for each in session.get_outputs()}
        if returned.get(OUTPUT) != ("tensor(float)", [len(described.names)]):
            raise ValueError(f"its outputs are {returned} for {len(described.names)} names")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no model of this program ({first_line(error)}); write one: {EXPORT}; a detector is for "
            "--detector"
        ) from error
    return described, place == "inside"


def _reason(error: Exception) -> str:
    return PREFIX.sub("", first_line(error))
