"""JAX's primitives as ONNX operators: `PRIMITIVES` has those that our models use.

tests/export/test_onnx.py tests that every model needs only these, and that every one of them is needed.
"""

import math
from collections.abc import Callable

import numpy as np
import onnx
from jax.extend.core import JaxprEqn

from animesion_jax.export.onnx_graph import Graph, Value


def _operator(name: str) -> Callable[..., Value]:
    """Returns the writer of a primitive that equals an operator of ONNX."""
    return lambda graph, equation, *inputs: graph.node(name, *inputs)


def _cast(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    if equation.invars[0].aval.dtype == equation.params["new_dtype"]:
        return x
    return graph.node("Cast", x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"])))


def _broadcast(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    """Inserts axes of length 1, then expands them."""
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
    """Multiplies (batch, rows, inner) by (batch, inner, columns), each merged from any number of axes."""
    (left_inner, right_inner), (left_batch, right_batch) = equation.params["dimension_numbers"]
    shapes = [each.aval.shape for each in equation.invars]
    rows = [axis for axis in range(len(shapes[0])) if axis not in (*left_inner, *left_batch)]
    columns = [axis for axis in range(len(shapes[1])) if axis not in (*right_inner, *right_batch)]
    batch = [shapes[0][axis] for axis in left_batch]
    inner = math.prod(shapes[0][axis] for axis in left_inner)
    height = [shapes[0][axis] for axis in rows]
    # Without a batch keep the rows: MatMul takes any number of leading axes, the open one included.
    left = graph.transpose(left, (*left_batch, *rows, *left_inner))
    if batch or len(left_inner) > 1:
        left = graph.reshape(left, [*batch, *([math.prod(height)] if batch else height), inner])
    right = graph.transpose(right, (*right_batch, *right_inner, *columns))
    right = graph.reshape(right, [*batch, inner, math.prod(shapes[1][axis] for axis in columns)])
    product = graph.node("MatMul", left, right)
    merged = len(columns) != 1 or (batch and len(rows) != 1)
    return graph.reshape(product, equation.outvars[0].aval.shape) if merged else product


def _convolution(graph: Graph, equation: JaxprEqn, images: Value, kernel: Value) -> Value:
    """Transposes to ONNX's channels-first layout and back; the runtime removes the pairs between convolutions."""
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
    """Pools the two middle axes; JAX and ONNX both pad with minus infinity."""
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
    """Writes a gather of one window at a constant place, which JAX makes of indexing with numbers and slices."""
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
    # The open axis is not sliced.
    axes = [axis for axis, each in enumerate(zip(starts, stops, steps, strict=True)) if each != (0, shape[axis], 1)]
    edges = ([each[axis] for axis in axes] for each in (starts, stops))
    arguments = (*edges, axes, [steps[axis] for axis in axes])
    return graph.node("Slice", x, *(np.array(each, np.int64) for each in arguments))


def _pad(graph: Graph, equation: JaxprEqn, x: Value, filler: Value) -> Value:
    befores, afters, between = zip(*equation.params["padding_config"], strict=True)
    assert not any(between)
    return graph.node("Pad", x, np.array([*befores, *afters], np.int64), filler)


PRIMITIVES: dict[str, Callable[..., Value]] = {
    "add": _operator("Add"),
    "sub": _operator("Sub"),
    "mul": _operator("Mul"),
    "div": _operator("Div"),
    "max": _operator("Max"),
    "neg": _operator("Neg"),
    "exp": _operator("Exp"),
    "tanh": _operator("Tanh"),
    "logistic": _operator("Sigmoid"),
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
