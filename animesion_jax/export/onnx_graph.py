"""JAX functions as ONNX graphs: `Graph.run` follows a jaxpr and writes an ONNX operator for each of its primitives.

What does not depend on the graph's inputs is computed by JAX and becomes a constant. A dimension that is not known, as
jax.export's symbolic shapes have it, stays open; there may be one, the batch. The table `PRIMITIVES` holds what our
models are made of; tests/test_onnx.py sees that each of them is written.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import Jaxpr, JaxprEqn, Literal

# A value is a constant, perhaps as JAX's tracer, or the name of what a node puts out.
Value = np.ndarray | jax.Array | str


class Graph:
    """The nodes and constants of an ONNX graph in the making.

    Made inside `jax.jit` with weights as its arguments, so that all that is computed of them is compiled at once.

    Attributes:
      nodes: in the order of computation.
      constants: numpy arrays by name, and tracers for what is computed of the weights.
    """

    def __init__(self, open_dimension: Any, source: str):
        """Begins a graph.

        Args:
          open_dimension: the symbolic dimension.
          source: name of a graph input whose first dimension it is.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray | jax.Array] = {}
        self._names: dict[Any, str] = {}
        self._open_dimension = open_dimension
        self._source = source
        self._length: str | None = None

    def node(self, operator: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, [self.name(each) for each in inputs], [name], **attributes))
        return name

    def name(self, value: Value) -> str:
        """Returns the name of a value; a constant becomes one of the graph, the same small one once."""
        if isinstance(value, str):
            return value
        small = isinstance(value, np.ndarray) and value.size <= 8
        key = (value.dtype, value.shape, value.tobytes()) if small else id(value)
        if key not in self._names:
            self._names[key] = f"constant_{len(self.constants)}"
            self.constants[self._names[key]] = value  # which keeps the array, and so its id
        return self._names[key]

    def shape(self, dimensions: Sequence[Any]) -> Value:
        """Returns the vector of dimensions, at most one of which is the open one."""
        if all(isinstance(each, int) for each in dimensions):
            return np.array(dimensions, np.int64)
        if self._length is None:
            self._length = self.node("Shape", self._source, start=0, end=1)
        parts = [np.array([each], np.int64) if isinstance(each, int) else self._length for each in dimensions]
        assert all(isinstance(each, int) or each == self._open_dimension for each in dimensions), dimensions
        return self.node("Concat", *parts, axis=0)

    def reshape(self, value: Value, dimensions: Sequence[Any]) -> Value:
        """Returns a value with other dimensions, at most one of them open."""
        if not isinstance(value, str):
            return value.reshape(dimensions)
        target = np.array([each if isinstance(each, int) else -1 for each in dimensions], np.int64)
        return self.node("Reshape", value, target)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Returns a value whose axis i is the axis order[i] of the given one."""
        if list(order) == list(range(len(order))):
            return value
        if not isinstance(value, str):
            return value.transpose(order)
        return self.node("Transpose", value, perm=list(order))

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        """Adds what a jaxpr computes; returns its outputs.

        Args:
          jaxpr: of one function.
          consts: values of its constvars.
          inputs: values of its invars, arrays where they are constant.
        """
        values = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        values |= dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Value:
            return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else values[atom]

        for equation in _needed(jaxpr):
            outputs = self._write(equation, [read(each) for each in equation.invars])
            values |= dict(zip(equation.outvars, outputs, strict=True))
        return [read(each) for each in jaxpr.outvars]

    def _write(self, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
        name = equation.primitive.name
        if name in NESTED:
            inner = equation.params[NESTED[name]]
            return self.run(inner.jaxpr, inner.consts, inputs)
        shape = equation.outvars[0].aval.shape
        if not any(isinstance(each, str) for each in inputs) and all(isinstance(each, int) for each in shape):
            return [_compute(equation, inputs)]
        if name not in PRIMITIVES:
            raise NotImplementedError(f"JAX's {name} has no counterpart in onnx_graph.PRIMITIVES")
        return [PRIMITIVES[name](self, equation, *inputs)]


def _compute(equation: JaxprEqn, inputs: list[np.ndarray | jax.Array]) -> np.ndarray | jax.Array:
    """Returns the only output of an equation on constants; a numpy array where none of them is traced."""
    if any(isinstance(each, jax.core.Tracer) for each in inputs):
        return equation.primitive.bind(*inputs, **equation.params)
    with jax.ensure_compile_time_eval():  # places of slices have to be known at once
        return np.asarray(equation.primitive.bind(*inputs, **equation.params))


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Returns the equations that the outputs depend on; what only a gradient would need is left out."""
    wanted = {each for each in jaxpr.outvars if not isinstance(each, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            kept.append(equation)
            wanted.update(each for each in equation.invars if not isinstance(each, Literal))
    return kept[::-1]


def _operator(name: str) -> Callable[..., Value]:
    """Returns the writer of a primitive that an operator of ONNX is the same as."""
    return lambda graph, equation, *inputs: graph.node(name, *inputs)


def _cast(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    if equation.invars[0].aval.dtype == equation.params["new_dtype"]:
        return x
    return graph.node("Cast", x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"])))


def _broadcast(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    """Axes of length 1 put in; then made longer where they are to be."""
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    old = equation.invars[0].aval.shape
    aligned = [old[places.index(axis)] if axis in places else 1 for axis in range(len(shape))]
    x = graph.reshape(x, aligned)
    return x if tuple(aligned) == tuple(shape) else graph.node("Expand", x, graph.shape(shape))


def _reduce(name: str) -> Callable[..., Value]:
    def write(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
        return graph.node(name, x, np.array(equation.params["axes"], np.int64), keepdims=0)

    return write


def _dot_general(graph: Graph, equation: JaxprEqn, left: Value, right: Value) -> Value:
    """A MatMul of (batch, rows, inner) and (batch, inner, columns), each merged from as many axes as there are."""
    (left_inner, right_inner), (left_batch, right_batch) = equation.params["dimension_numbers"]
    shapes = [each.aval.shape for each in equation.invars]
    rows = [axis for axis in range(len(shapes[0])) if axis not in (*left_inner, *left_batch)]
    columns = [axis for axis in range(len(shapes[1])) if axis not in (*right_inner, *right_batch)]
    batch = [shapes[0][axis] for axis in left_batch]
    inner = math.prod(shapes[0][axis] for axis in left_inner)
    height = [shapes[0][axis] for axis in rows]
    # Without a batch the rows stay as they are: MatMul takes any number of leading axes, the open one among them.
    left = graph.transpose(left, (*left_batch, *rows, *left_inner))
    if batch or len(left_inner) > 1:
        left = graph.reshape(left, [*batch, *([math.prod(height)] if batch else height), inner])
    right = graph.transpose(right, (*right_batch, *right_inner, *columns))
    right = graph.reshape(right, [*batch, inner, math.prod(shapes[1][axis] for axis in columns)])
    product = graph.node("MatMul", left, right)
    merged = len(columns) != 1 or (batch and len(rows) != 1)
    return graph.reshape(product, equation.outvars[0].aval.shape) if merged else product


def _convolution(graph: Graph, equation: JaxprEqn, images: Value, kernel: Value) -> Value:
    """ONNX has channels first; the transpositions between two convolutions are the runtime's to take out."""
    params, layout = equation.params, equation.params["dimension_numbers"]
    assert set(params["lhs_dilation"]) == {1} and params["batch_group_count"] == 1
    tops, bottoms = zip(*params["padding"], strict=True)
    result = graph.node(
        "Conv",
        graph.transpose(images, layout.lhs_spec),
        graph.transpose(kernel, layout.rhs_spec),
        strides=list(params["window_strides"]),
        pads=[*tops, *bottoms],
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    return graph.transpose(result, np.argsort(layout.out_spec).tolist())


def _max_pool(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    """Over the two middle axes; both count what is padded as minus infinity."""
    params = equation.params
    (_, *window, _), (_, *strides, _), (_, *padding, _) = (
        params[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    assert len(window) == 2 and {*params["base_dilation"], *params["window_dilation"]} == {1}
    tops, bottoms = zip(*padding, strict=True)
    x = graph.transpose(x, (0, 3, 1, 2))
    x = graph.node("MaxPool", x, kernel_shape=window, strides=strides, pads=[*tops, *bottoms])
    return graph.transpose(x, (0, 2, 3, 1))


def _slice(graph: Graph, equation: JaxprEqn, x: Value, starts: Value) -> Value:
    """A gather of one window at a constant place, which is what indexing with numbers and slices becomes."""
    numbers = equation.params["dimension_numbers"]
    sizes, shape = equation.params["slice_sizes"], equation.invars[0].aval.shape
    assert isinstance(starts, np.ndarray) and starts.size == len(numbers.start_index_map)
    begins = dict(zip(numbers.start_index_map, starts.ravel().tolist(), strict=True))
    assert all(0 <= begin <= shape[axis] - sizes[axis] for axis, begin in begins.items())
    axes = [axis for axis in begins if sizes[axis] != shape[axis]]
    if axes:
        edges = [begins[axis] for axis in axes], [begins[axis] + sizes[axis] for axis in axes]
        x = graph.node("Slice", x, *(np.array(each, np.int64) for each in (*edges, axes)))
    result = equation.outvars[0].aval.shape
    return x if tuple(sizes) == tuple(result) else graph.reshape(x, result)


def _strided_slice(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    params, shape = equation.params, equation.invars[0].aval.shape
    starts, stops, steps = (params[name] for name in ("start_indices", "limit_indices", "strides"))
    steps = steps or (1,) * len(shape)
    # The batch, whose size is open, is among the axes that stay whole.
    axes = [axis for axis, each in enumerate(zip(starts, stops, steps, strict=True)) if each != (0, shape[axis], 1)]
    edges = ([each[axis] for axis in axes] for each in (starts, stops))
    arguments = (*edges, axes, [steps[axis] for axis in axes])
    return graph.node("Slice", x, *(np.array(each, np.int64) for each in arguments))


def _pad(graph: Graph, equation: JaxprEqn, x: Value, filler: Value) -> Value:
    befores, afters, between = zip(*equation.params["padding_config"], strict=True)
    assert not any(between)
    return graph.node("Pad", x, np.array([*befores, *afters], np.int64), filler)


# Primitives that call another function, and the parameter that holds it.
NESTED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}

PRIMITIVES: dict[str, Callable[..., Value]] = {
    "add": _operator("Add"),
    "sub": _operator("Sub"),
    "mul": _operator("Mul"),
    "div": _operator("Div"),
    "max": _operator("Max"),
    "neg": _operator("Neg"),
    "exp": _operator("Exp"),
    "tanh": _operator("Tanh"),
    "square": lambda graph, equation, x: graph.node("Mul", x, x),
    "rsqrt": lambda graph, equation, x: graph.node("Reciprocal", graph.node("Sqrt", x)),
    "erfc": lambda graph, equation, x: graph.node("Sub", np.float32(1)[...], graph.node("Erf", x)),
    "integer_pow": lambda graph, equation, x: graph.node("Pow", x, np.array(equation.params["y"], np.float32)),
    "convert_element_type": _cast,
    "stop_gradient": lambda graph, equation, x: x,
    "copy": lambda graph, equation, x: x,
    "reshape": lambda graph, equation, x: graph.reshape(x, equation.params["new_sizes"]),
    "transpose": lambda graph, equation, x: graph.transpose(x, equation.params["permutation"]),
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda graph, equation, *parts: graph.node("Concat", *parts, axis=equation.params["dimension"]),
    "gather": _slice,
    "slice": _strided_slice,
    "pad": _pad,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _max_pool,
}
