"""Counts the FLOPs, bytes and integer operations of a compiled program in its HLO text."""

import dataclasses
import math
import re
from collections.abc import Iterator

NUM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4,
             "s64": 8, "u64": 8, "f64": 8}  # fmt: skip
INTEGER_OPERATIONS = {"add", "subtract", "multiply", "and", "or", "xor", "shift-left", "shift-right-logical"}
# Instructions that cost nothing.
NAMES = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple", "after-all"}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a compiled program.

    Attributes:
      shapes: (dtype, dimensions) of each result; a tuple has several.
      operation: the opcode, such as "fusion" or "custom-call".
      operands: names of the instructions whose results it reads.
      attributes: the rest of the line.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operation: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def num_bytes(self) -> int:
        """Bytes of the results."""
        return sum(NUM_BYTES[dtype] * math.prod(shape) for dtype, shape in self.shapes)


Computation = dict[str, Instruction]


def parse(text: str) -> tuple[Computation, dict[str, Computation]]:
    """Parses HLO text; returns the entry computation, and all computations by name."""
    computations: dict[str, Computation] = {}
    entry: Computation = {}
    current: Computation = {}
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = computations[head[2]] = {}
            entry = current if head[1] else entry
        elif found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$", line):
            name, shape, operation, rest = found.groups()
            operands, _, attributes = rest.partition(")")
            shapes = tuple(
                (dtype, tuple(int(size) for size in sizes.split(",") if size))
                for dtype, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shape)
                if dtype in NUM_BYTES
            )
            current[name] = Instruction(shapes, operation, tuple(re.findall(r"%([\w.\-]+)", operands)), attributes)
    return entry, computations


@dataclasses.dataclass(frozen=True)
class Rates:
    """Peak rates of a device, per second.

    Attributes:
      flops: FLOPs of bfloat16 matrix products; a multiply-add counts as two.
      bandwidth: bytes read from or written to its memory.
      integers: 32-bit integer operations.
    """

    flops: float
    bandwidth: float = 0.0
    integers: float = 0.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of an instruction: FLOPs of products, bytes, and 32-bit integer operations."""

    flops: int
    num_bytes: int
    integers: int

    def seconds(self, rates: Rates) -> float:
        """Returns a lower bound of the instruction's time."""
        return max(self.flops / rates.flops, self.num_bytes / rates.bandwidth, self.integers / rates.integers)


def costs_of(
    computation: Computation, computations: dict[str, Computation], times: int = 1
) -> Iterator[tuple[str, Cost]]:
    """Yields (name, cost) of all instructions that a computation runs; a loop's body counts once per iteration."""
    for name, instruction in computation.items():
        if instruction.operation == "while":
            turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
            body = re.search(r"body=%?([\w.\-]+)", instruction.attributes)[1]
            yield from costs_of(computations[body], computations, times * int(turns[1]))
        elif instruction.operation not in NAMES:
            num_bytes = instruction.num_bytes + sum(computation[name].num_bytes for name in instruction.operands)
            flops, integers = _flops(instruction, computation), 0
            called = re.search(r"calls=%?([\w.\-]+)", instruction.attributes)
            for inner in computations[called[1]].values() if called else ():
                flops += _flops(inner, computations[called[1]])
                if inner.operation in INTEGER_OPERATIONS and inner.shapes[0][0] in ("s32", "u32"):
                    integers += math.prod(inner.shapes[0][1])
            yield name, Cost(times * flops, times * num_bytes, times * integers)


def _flops(instruction: Instruction, computation: Computation) -> int:
    attributes = instruction.attributes
    if instruction.operation == "dot":
        inner = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", attributes)[1]
    elif "__cublas$" in attributes:
        inner = re.search(r'"lhs_contracting_dimensions":\[(.*?)\]', attributes)[1].replace('"', "")
    elif "__cudnn$conv" in attributes:
        return _convolution_flops(instruction, computation)
    elif "__cudnn$fmha" in attributes:
        # (batch, tokens, heads, width) queries: two products forward; five backward, one of them recomputed.
        batch, tokens, heads, width = computation[instruction.operands[0]].shapes[0][1]
        return (10 if "Backward" in attributes else 4) * batch * heads * tokens**2 * width
    else:
        return 0
    left = computation[instruction.operands[0]].shapes[0][1]
    return 2 * math.prod(instruction.shapes[0][1]) * math.prod(left[int(axis)] for axis in inner.split(",") if axis)


def _convolution_flops(instruction: Instruction, computation: Computation) -> int:
    """Returns the FLOPs of a cuDNN convolution or of either of its gradients; all three have the same products."""
    shapes = [computation[name].shapes[0][1] for name in instruction.operands[:2]]
    result = instruction.shapes[0][1]
    places, kernel = {
        "Forward": (result, shapes[1]),
        "BackwardInput": (shapes[0], shapes[1]),
        "BackwardFilter": (shapes[1], result),
    }[re.search(r"__cudnn\$conv(\w+)", instruction.attributes)[1]]
    # Kernels are (features, height, width, channels).
    return 2 * math.prod(places[:-1]) * math.prod(kernel)
