"""Small real ONNX detectors: each finds pure red squares of one size by convolutions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from animesion_jax.preprocessing import Box

BLOB = 16
LAYOUTS = ("yolo", "end_to_end", "rtdetr")
GROUND = (70, 120, 160)


def draw_blobs(size: tuple[int, int], boxes: Sequence[Box]) -> Image.Image:
    """Returns a picture of (width, height) with a red rectangle at each box, on a ground that is not red."""
    picture = Image.new("RGB", size, GROUND)
    for box in boxes:
        picture.paste((255, 0, 0), box)
    return picture


def write_blob_detector(
    path: Path,
    *,
    layout: str = "yolo",
    size: tuple[int, int] = (64, 64),
    blob: int = BLOB,
    stride: int = 4,
    names: dict[int, str] | None = None,
    metadata: dict[str, str] | None = None,
    dynamic: bool = False,
    score: float = 1.0,
) -> Path:
    """Writes a detector whose input is (1, 3, H, W) in 0..1, and returns `path`.

    The score at a place of the grid is 1 if the square of `blob` pixels there is red, and falls to 0 where three
    quarters of it are, as beside a blob on the grid.

    Args:
      path: the file.
      layout: one of `LAYOUTS`.
      size: height and width of the input.
      blob: side of the squares in input pixels.
      stride: step of the grid in input pixels.
      names: classes of the metadata; the blobs are of the first one. None for {0: "head"}.
      metadata: replaces the metadata, {"imgsz": ..., "names": ...}.
      dynamic: whether the input's height and width are not in the file.
      score: factor of all scores, such as NaN.
    """
    names = {0: "head"} if names is None else names
    height, width = size
    boxes, rest = _geometry(layout, size, blob, stride, len(names) - 1)
    constants: dict[str, Any] = {
        "red": np.array([1, -1, -1], np.float32).reshape(1, 3, 1, 1),
        "window": np.full((1, 1, blob, blob), 4 / blob**2, np.float32),
        "bias": np.array([-3], np.float32),
        "factor": np.array(score, np.float32),
        "flat": np.array([1, 1, -1], np.int64),
        "boxes": boxes[None],
        "rest": rest[None],
    }
    nodes = [
        helper.make_node("Conv", ["images", "red"], ["redness"]),
        helper.make_node("Relu", ["redness"], ["positive"]),
        helper.make_node("Conv", ["positive", "window", "bias"], ["share"], strides=[stride, stride]),
        helper.make_node("Relu", ["share"], ["map"]),
        helper.make_node("Mul", ["map", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores", "rest"], ["columns"], axis=1),
        helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("Identity", ["columns" if layout == "yolo" else "rows"], ["output0"]),
    ]
    shape = [1, 3, "height" if dynamic else height, "width" if dynamic else width]
    if metadata is None:
        metadata = {"imgsz": str([height, width]), "names": str(names)}
    return write_model(path, nodes, constants, shape, metadata)


def _geometry(
    layout: str, size: tuple[int, int], blob: int, stride: int, other_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (4, places) boxes of the grid, and what follows the scores: classes, or the class."""
    height, width = size
    rows, columns = (height - blob) // stride + 1, (width - blob) // stride + 1
    top, left = (stride * np.indices((rows, columns)).reshape(2, -1)).astype(np.float32)
    if layout == "end_to_end":
        return np.stack([left, top, left + blob, top + blob]), np.zeros((1, rows * columns), np.float32)
    sides = np.full_like(left, blob)
    boxes = np.stack([left + blob / 2, top + blob / 2, sides, sides])
    if layout == "rtdetr":
        boxes /= np.array([[width], [height], [width], [height]], np.float32)
    return boxes, np.zeros((other_classes, rows * columns), np.float32)


def write_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: Sequence[int | str],
    metadata: dict[str, str],
    dtype: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("output0",),
) -> Path:
    """Writes a graph with the input "images" and float32 outputs of any shape; returns `path`."""
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path
