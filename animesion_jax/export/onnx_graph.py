"""An ONNX graph under construction."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx

# A constant, perhaps traced by JAX, or the name of a node's output.
Value = np.ndarray | jax.Array | str


class Graph:
    """The nodes and constants of an ONNX graph, in which one dimension, the batch, may stay open.

    Build it inside `jax.jit` with the weights as arguments: then their computations are compiled together.

    Attributes:
      nodes: in the order of computation.
      constants: numpy arrays by name, and tracers for values computed from the weights.
    """

    def __init__(self, open_dimension: Any, source: str):
        """Starts an empty graph; `open_dimension` is jax.export's symbol for the first dimension of input `source`."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray | jax.Array] = {}
        self._names: dict[Any, str] = {}
        self._open_dimension = open_dimension
        self._source = source
        self._length: str | None = None

    def node(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output and returns the output's name."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, [self.name(each) for each in inputs], [name], **attributes))
        return name

    def name(self, value: Value) -> str:
        """Returns the name of a value; adds a constant to the graph, equal small ones only once."""
        if isinstance(value, str):
            return value
        small = isinstance(value, np.ndarray) and value.size <= 8
        key = (value.dtype, value.shape, value.tobytes()) if small else id(value)
        if key not in self._names:
            self._names[key] = f"constant_{len(self.constants)}"
            self.constants[self._names[key]] = value  # keeps the array alive, so that its id stays unique
        return self._names[key]

    def shape(self, dimensions: Sequence[Any]) -> Value:
        """Returns the vector of dimensions; at most one is the open one."""
        if all(isinstance(each, int) for each in dimensions):
            return np.array(dimensions, np.int64)
        if self._length is None:
            self._length = self.node("Shape", self._source, start=0, end=1)
        parts = [np.array([each], np.int64) if isinstance(each, int) else self._length for each in dimensions]
        assert all(isinstance(each, int) or each == self._open_dimension for each in dimensions), dimensions
        return self.node("Concat", *parts, axis=0)

    def reshape(self, value: Value, dimensions: Sequence[Any]) -> Value:
        """Returns a value with other dimensions; at most one is the open one."""
        if not isinstance(value, str):
            return value.reshape(dimensions)
        target = np.array([each if isinstance(each, int) else -1 for each in dimensions], np.int64)
        return self.node("Reshape", value, target)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Returns a value with its axes in another order, as in `numpy.transpose`."""
        if list(order) == list(range(len(order))):
            return value
        if not isinstance(value, str):
            return value.transpose(order)
        return self.node("Transpose", value, perm=list(order))
