"""Writes an ONNX detector of YOLOv8's shape with random weights, to time `benchmarks/find.py`; it finds no head.

python benchmarks/yolo_shape.py --output=yolov8s.onnx
python benchmarks/yolo_shape.py --size=n --output=yolov8n.onnx

Layers, depths and widths are those of Ultralytics' yolov8.yaml, for one class and 640 x 640 pixels, as exports have
them: batch normalisation is part of the convolutions. Prints the parameters and the floating-point operations of the
convolutions, which Ultralytics gives as 3.2 M and 8.7 GFLOPs (n) and 11.2 M and 28.6 GFLOPs (s) for 80 classes.
"""

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT_SIDE = 640
# Depth and width by size, and the channels of the stages before they are scaled.
SIZES = {"n": (1 / 3, 0.25), "s": (1 / 3, 0.5)}
CHANNELS = (64, 128, 256, 512, 1024)
REPEATS = (3, 6, 6, 3)
STRIDES = (8, 16, 32)
BINS = 16
# Its sigmoid is the score of every box; far below any threshold.
CLASS_BIAS = -10.0


class Network:
    """A graph of convolutions; values are (name, channels, side)."""

    def __init__(self, seed: int = 0):
        self.nodes, self.constants, self._random = [], [], np.random.default_rng(seed)
        self.parameters = self.operations = 0

    def node(self, operator: str, inputs: Sequence[str], **attributes) -> str:
        """Adds an operator with one output; returns the output's name."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, values: np.ndarray) -> str:
        """Adds a constant; returns its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def plain(self, x, channels: int, kernel: int = 1, stride: int = 1, bias: float = 0.0):
        """A convolution with bias."""
        name, inputs, side = x
        scale = np.sqrt(2 / (inputs * kernel * kernel))
        weights = self._random.standard_normal((channels, inputs, kernel, kernel), np.float32) * np.float32(scale)
        constants = self.constant(weights), self.constant(np.full(channels, bias, np.float32))
        side //= stride
        self.parameters += weights.size + channels
        self.operations += 2 * weights.size * side * side
        pads, strides = [kernel // 2] * 4, [stride, stride]
        return self.node("Conv", [name, *constants], pads=pads, strides=strides), channels, side

    def conv(self, x, channels: int, kernel: int = 1, stride: int = 1):
        """A convolution and SiLU."""
        name, channels, side = self.plain(x, channels, kernel, stride)
        return self.node("Mul", [name, self.node("Sigmoid", [name])]), channels, side

    def concat(self, *parts):
        """Joins the channels."""
        return self.node("Concat", [name for name, *_ in parts], axis=1), sum(part[1] for part in parts), parts[0][2]

    def c2f(self, x, channels: int, repeats: int, shortcut: bool):
        """Ultralytics' C2f: bottlenecks on half of the channels, all concatenated."""
        whole, _, side = self.conv(x, channels)
        half = channels // 2
        starts = [self.constant(np.array([edge], np.int64)) for edge in (0, half, channels)]
        axis = self.constant(np.array([1], np.int64))
        parts = [(self.node("Slice", [whole, a, b, axis]), half, side) for a, b in itertools.pairwise(starts)]
        for _ in range(repeats):
            after = self.conv(self.conv(parts[-1], half, 3), half, 3)
            parts.append((self.node("Add", [parts[-1][0], after[0]]), half, side) if shortcut else after)
        return self.conv(self.concat(*parts), channels)

    def pooled(self, x, channels: int):
        """Ultralytics' SPPF: three max-poolings of 5 x 5 in a row."""
        parts = [self.conv(x, channels // 2)]
        for _ in range(3):
            name, half, side = parts[-1]
            parts.append((self.node("MaxPool", [name], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1]), half, side))
        return self.conv(self.concat(*parts), channels)

    def enlarged(self, x):
        """Doubles the sides."""
        name, channels, side = x
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", [name, "", scales], mode="nearest"), channels, 2 * side


def build(size: str) -> tuple[onnx.ModelProto, int, int]:
    """Returns a model, its parameters, and the operations of its convolutions."""
    depth, width = SIZES[size]
    channels = [int(each * width) for each in CHANNELS]
    repeats = [max(round(each * depth), 1) for each in REPEATS]
    net = Network()
    x, stages = net.conv(("images", 3, INPUT_SIDE), channels[0], 3, 2), []
    for count, repeat in zip(channels[1:], repeats, strict=True):
        x = net.c2f(net.conv(x, count, 3, 2), count, repeat, shortcut=True)
        stages.append(x)
    _, small, middle, _ = stages
    large = net.pooled(x, channels[4])
    middle = net.c2f(net.concat(net.enlarged(large), middle), channels[3], repeats[3], shortcut=False)
    small = net.c2f(net.concat(net.enlarged(middle), small), channels[2], repeats[3], shortcut=False)
    middle = net.c2f(net.concat(net.conv(small, channels[2], 3, 2), middle), channels[3], repeats[3], shortcut=False)
    large = net.c2f(net.concat(net.conv(middle, channels[3], 3, 2), large), channels[4], repeats[3], shortcut=False)
    output = _boxes(net, [small, middle, large], max(channels[2] // 4, 64), channels[2])
    anchors = sum((INPUT_SIDE // stride) ** 2 for stride in STRIDES)
    graph = helper.make_graph(
        [*net.nodes, helper.make_node("Identity", [output], ["output0"])],
        f"yolov8{size}",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, INPUT_SIDE, INPUT_SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 5, anchors])],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'head'}", "imgsz": f"[{INPUT_SIDE}, {INPUT_SIDE}]", "task": "detect"})
    onnx.checker.check_model(model, full_check=True)
    return model, net.parameters, net.operations


def _boxes(net: Network, levels: Sequence, box_channels: int, class_channels: int) -> str:
    """Adds Ultralytics' head; returns the name of (1, 4 + 1, anchors): centre, width, height in pixels, and score."""
    rows, centres, strides = [], [], []
    shape = net.constant(np.array([1, 4 * BINS + 1, -1], np.int64))
    for level, stride in zip(levels, STRIDES, strict=True):
        sides = net.plain(net.conv(net.conv(level, box_channels, 3), box_channels, 3), 4 * BINS)
        scores = net.plain(net.conv(net.conv(level, class_channels, 3), class_channels, 3), 1, bias=CLASS_BIAS)
        rows.append(net.node("Reshape", [net.concat(sides, scores)[0], shape]))
        y, x = np.mgrid[: level[2], : level[2]].reshape(2, -1) + 0.5
        centres.append(np.stack([x, y]))
        strides.append(np.full(x.size, stride))
    joined = net.node("Concat", rows, axis=2)
    parts = net.constant(np.array([4 * BINS, 1], np.int64))
    net.nodes.append(helper.make_node("Split", [joined, parts], ["sides", "scores"], axis=1))
    bins = net.node("Reshape", ["sides", net.constant(np.array([1, 4, BINS, -1], np.int64))])
    weights = net.node("Softmax", [bins], axis=2)
    places = net.constant(np.arange(BINS, dtype=np.float32).reshape(1, 1, BINS, 1))
    axis = net.constant(np.array([2], np.int64))
    distances = net.node("ReduceSum", [net.node("Mul", [weights, places]), axis], keepdims=0)
    halves = net.constant(np.array([2, 2], np.int64))
    net.nodes.append(helper.make_node("Split", [distances, halves], ["before", "after"], axis=1))
    middle = net.constant(np.concatenate(centres, 1)[None].astype(np.float32))
    offset = net.node("Sub", ["after", "before"])
    half = net.node("Mul", [offset, net.constant(np.float32(0.5)[...])])
    centre, extent = net.node("Add", [middle, half]), net.node("Add", ["after", "before"])
    boxes = net.node("Concat", [centre, extent], axis=1)
    scaled = net.node("Mul", [boxes, net.constant(np.concatenate(strides)[None, None].astype(np.float32))])
    return net.node("Concat", [scaled, net.node("Sigmoid", ["scores"])], axis=1)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="file to write")
    parser.add_argument("--size", choices=tuple(SIZES), default="s", help="default: s")
    flags = parser.parse_args()
    model, parameters, operations = build(flags.size)
    onnx.save(model, flags.output)
    print(f"wrote {flags.output}: {parameters / 1e6:.1f} M parameters, {operations / 1e9:.1f} GFLOPs")


if __name__ == "__main__":
    main()
