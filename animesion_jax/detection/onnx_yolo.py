"""Detectors of the YOLO family as ONNX files, run by ONNX Runtime."""

import ast
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from animesion_jax.detection.detector import Detection
from animesion_jax.detection.outputs import choose_decoder, counted_classes
from animesion_jax.detection.suppression import suppress
from animesion_jax.errors import InputError, first_line

# imgutils' defaults; most repositories have a better threshold in threshold.json.
MIN_CONFIDENCE = 0.25
MAX_IOU = 0.7
# Several pictures are searched at once, by a thread each.
THREADS = 1
# Longest side of a network's input in pixels.
MAX_INPUT = 4096
# Longest metadata entry that is parsed, in characters.
MAX_TEXT = 100_000


class OnnxYolo:
    """A detector in one of the layouts of `outputs.py`; see `Detector`.

    It does as imgutils does, with whose code the published thresholds were chosen: the picture is stretched to the
    network's input, and boxes are suppressed whatever their class.
    """

    def __init__(self, path: Path, name: str, sha256: str, min_confidence: float | None = None):
        """Opens the file and runs it once; see `load_detector` for the arguments and the errors."""
        self.name, self.sha256 = name, sha256
        self._session = _open(path)
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            names = _names(metadata)
            self._input, self._size = _check_input(self._session.get_inputs(), metadata)
            self._classes = counted_classes(names)
            blank = np.zeros((1, 3, self._size[1], self._size[0]), np.float32)
            is_rtdetr = _read_beside(path, "model_type.json", "model_type", str) == "rtdetr"
            self._decode = choose_decoder(self._run(blank).shape, names, is_rtdetr)
            if min_confidence is None:
                min_confidence = _read_beside(path, "threshold.json", "threshold", _confidence)
        except InputError as error:
            raise InputError(f"{path} is not a detector: {error}") from error
        self._min_confidence = MIN_CONFIDENCE if min_confidence is None else min_confidence

    def __call__(self, image: Image.Image) -> list[Detection]:
        """Returns the heads on an RGB image; see `Detector`."""
        # Pillow's default filter, as in imgutils.
        pixels = np.asarray(image.resize(self._size), np.float32) / np.float32(255)
        output = self._run(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
        # A network may give NaN and infinities. Comparisons with NaN are false.
        with np.errstate(invalid="ignore", over="ignore"):
            boxes, scores = self._decode(output[0].astype(np.float32), self._size, self._classes)
        usable = (scores >= self._min_confidence) & (scores > 0) & (scores < np.inf) & np.isfinite(boxes).all(1)
        kept = suppress(boxes[usable], scores[usable], MAX_IOU)
        width, height = image.size
        corners = (boxes[usable][kept] * [width, height, width, height]).clip(0, [width, height, width, height])
        return [
            Detection((left, top, right, bottom), min(float(score), 1.0))
            for (left, top, right, bottom), score in zip(
                corners.round().astype(int).tolist(), scores[usable][kept], strict=True
            )
            if left < right and top < bottom
        ]

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            outputs = self._session.run(None, {self._input: images})
        except Exception as error:  # ONNX Runtime's errors have no type in common
            raise InputError(f"ONNX Runtime cannot run it ({first_line(error)}); export it again") from error
        return np.asarray(outputs[0])


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no type in common
        raise InputError(
            f"{path} is not a detector: ONNX Runtime cannot read it ({first_line(error)}); allowed: a whole ONNX file "
            "of standard operators"
        ) from error


def _check_input(inputs: Sequence[Any], metadata: dict[str, str]) -> tuple[str, tuple[int, int]]:
    """Returns the name of the input, and its width and height."""
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
        described = "; ".join(f"{each.name} {each.type} {each.shape}" for each in inputs) or "nothing"
        raise InputError(f"its input is {described}; allowed: one input, float32, batch x 3 x height x width")
    sides = shape[2:]
    if not all(isinstance(side, int) for side in sides):
        sides = _literal(metadata, "imgsz")
        if sides is None:
            raise InputError("it does not say the size of its input; export it with a fixed size, or metadata imgsz")
    if isinstance(sides, int):
        sides = (sides, sides)
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise InputError(f"the size of its input is {sides!r}; allowed: height and width, 1 to {MAX_INPUT} pixels")
    return inputs[0].name, (sides[1], sides[0])


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_INPUT


def _names(metadata: dict[str, str]) -> list[str] | None:
    """Returns the names of the classes by id; None if the file does not have them."""
    names = _literal(metadata, "names")
    if names is None:
        return None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[place] for place in range(len(names))]
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"its metadata names is {names!r}; allowed: a name for each class, {{0: 'head', ...}}")
    return list(names)


def _literal(metadata: dict[str, str], key: str) -> Any:
    """Returns the value of a metadata entry, which is a Python literal; None if it is missing."""
    text = metadata.get(key)
    if text is None:
        return None
    try:
        if len(text) > MAX_TEXT:
            raise ValueError(f"{len(text)} characters")
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(
            f"its metadata {key} is not a Python literal ({first_line(error)}); export it again"
        ) from error


def _confidence(value: Any) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"it is {value}; allowed: 0 to 1")
    return float(value)


def _read_beside(path: Path, file: str, key: str, read: Callable[[Any], Any]) -> Any:
    """Returns the value of a key in a JSON file beside the detector, as `read`; None if there is no such file."""
    beside = path.with_name(file)
    if not beside.is_file():
        return None
    try:
        return read(json.loads(beside.read_text(encoding="utf-8"))[key])
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{beside} has no {key} ({first_line(error)}); delete it, or download it again") from error
