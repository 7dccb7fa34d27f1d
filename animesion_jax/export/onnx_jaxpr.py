"""A jaxpr as nodes of an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from animesion_jax.export.onnx_graph import Graph, Value
from animesion_jax.export.onnx_primitives import PRIMITIVES

# Primitives that call another function, and the parameter that holds it.
NESTED = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def add_jaxpr(graph: Graph, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Adds the operators of a jaxpr to a graph and returns its outputs.

    JAX computes everything that does not depend on the graph's inputs; it becomes a constant. Inputs that are constants
    are arrays.

    Raises:
      NotImplementedError: a primitive that is not in `PRIMITIVES`.
    """
    values = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
    values |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return np.asarray(atom.val, atom.aval.dtype) if isinstance(atom, Literal) else values[atom]

    for equation in _needed(jaxpr):
        outputs = _add_equation(graph, equation, [read(each) for each in equation.invars])
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(each) for each in jaxpr.outvars]


def _add_equation(graph: Graph, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name in NESTED:
        inner = equation.params[NESTED[name]]
        return add_jaxpr(graph, inner.jaxpr, inner.consts, inputs)
    shape = equation.outvars[0].aval.shape
    if not any(isinstance(each, str) for each in inputs) and all(isinstance(each, int) for each in shape):
        return [_compute(equation, inputs)]
    if name not in PRIMITIVES:
        raise NotImplementedError(f"JAX's {name} has no counterpart in onnx_primitives.PRIMITIVES")
    return [PRIMITIVES[name](graph, equation, *inputs)]


def _compute(equation: JaxprEqn, inputs: list[np.ndarray | jax.Array]) -> np.ndarray | jax.Array:
    """Returns the only output of an equation on constants; a numpy array unless one of them is traced."""
    if any(isinstance(each, jax.core.Tracer) for each in inputs):
        return equation.primitive.bind(*inputs, **equation.params)
    with jax.ensure_compile_time_eval():  # the starts of slices must be known at once
        return np.asarray(equation.primitive.bind(*inputs, **equation.params))


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Returns the equations that the outputs depend on, without those that only a gradient needs."""
    wanted = {each for each in jaxpr.outvars if not isinstance(each, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if wanted.intersection(equation.outvars):
            kept.append(equation)
            wanted.update(each for each in equation.invars if not isinstance(each, Literal))
    return kept[::-1]
