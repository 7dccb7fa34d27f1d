"""Bundles as ONNX files; docs/export.md describes their input, outputs and metadata."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from etils import epath

import animesion_jax
from animesion_jax.bundle import Bundle, metadata
from animesion_jax.export.onnx_graph import Graph
from animesion_jax.export.onnx_jaxpr import add_jaxpr
from animesion_jax.files import write_whole
from animesion_jax.inference.forward import character_logits, logits_and_embeddings
from animesion_jax.preprocessing import normalize

INPUT, OUTPUTS, BATCH = "images", ("probabilities", "logits"), "batch"
# Versions of the operators and of the file format; ONNX Runtime reads both since 1.14.
OPSET, IR_VERSION = 18, 8
# protobuf limits a file to 2 GiB; larger models have their weights in a second file.
MAX_BYTES = 2_000_000_000
# Constants of at most this many values stay in the first file, because shape inference reads them.
MAX_INSIDE = 64


def write_onnx(bundle: Bundle, output: str, normalize_inside: bool = False) -> list[epath.Path]:
    """Writes a bundle's model atomically and returns the files.

    The model computes in float32, also if it was trained in bfloat16.

    Args:
      bundle: from `load_bundle` or `bundle_of_run`.
      output: file to write; local or gs://. Weights of more than 2 GB go to OUTPUT.data beside it.
      normalize_inside: whether the graph normalises its input, (batch, S, S, 3) uint8 pixels. Otherwise the input is
        float32 and already normalised.

    Raises:
      InputError: the output is a folder.
    """
    (batch,) = jax.export.symbolic_shape(BATCH)
    shape, dtype = (batch, bundle.image_size, bundle.image_size, 3), np.uint8 if normalize_inside else np.float32
    graph = Graph(batch, INPUT)
    names, constants = _add_model(graph, bundle, jax.ShapeDtypeStruct(shape, dtype), normalize_inside)
    kinds = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), onnx.TensorProto.FLOAT
    described = onnx.helper.make_graph(
        [*graph.nodes, *(onnx.helper.make_node("Identity", [a], [b]) for a, b in zip(names, OUTPUTS, strict=True))],
        bundle.description["name"],
        [onnx.helper.make_tensor_value_info(INPUT, kinds[0], [BATCH, *shape[1:]])],
        [onnx.helper.make_tensor_value_info(name, kinds[1], [BATCH, len(bundle.names)]) for name in OUTPUTS],
    )
    model = onnx.helper.make_model(
        described,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="animesion_jax",
        producer_version=animesion_jax.__version__,
    )
    place = "inside" if normalize_inside else "outside"
    onnx.helper.set_model_props(model, metadata(bundle, bundle.names) | {"normalization": place})
    return _save(model, constants, output)


def _add_model(
    graph: Graph, bundle: Bundle, images: jax.ShapeDtypeStruct, normalize_inside: bool
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Adds a bundle's model to a graph; returns the names of the values for `OUTPUTS` and the graph's constants."""
    model, names = bundle.model.clone(dtype=jnp.float32), []

    def forward(variables, images):
        inputs = normalize(images, bundle.mean, bundle.std) if normalize_inside else images
        if bundle.enrolled:
            outputs = logits_and_embeddings(model, variables, inputs)
        else:
            outputs = model.apply(variables, inputs), None
        logits = character_logits(bundle, *outputs)
        return jax.nn.softmax(logits), logits

    @jax.jit
    def build(variables):
        traced = jax.make_jaxpr(forward)(variables, images)
        names.extend(add_jaxpr(graph, traced.jaxpr, traced.consts, [*jax.tree.leaves(variables), INPUT]))
        return {name: value for name, value in graph.constants.items() if not isinstance(value, np.ndarray)}

    computed = jax.tree.map(np.asarray, build(bundle.variables))
    return names, {**graph.constants, **computed}


def _save(model: onnx.ModelProto, constants: dict[str, np.ndarray], output: str) -> list[epath.Path]:
    """Writes a model with its constants, the large ones in a second file if it gets too large; returns the files."""
    large: dict[str, np.ndarray] = {}
    if sum(array.nbytes for array in constants.values()) > MAX_BYTES:
        large = {key: array for key, array in constants.items() if array.size > MAX_INSIDE}
    offset = 0
    for key, array in constants.items():
        if key not in large:
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, key))
            continue
        place = {"location": f"{epath.Path(output).name}.data", "offset": offset, "length": array.nbytes}
        offset += array.nbytes
        model.graph.initializer.append(
            onnx.TensorProto(
                name=key,
                data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype),
                dims=array.shape,
                data_location=onnx.TensorProto.EXTERNAL,
                external_data=[onnx.StringStringEntryProto(key=name, value=str(v)) for name, v in place.items()],
            )
        )
    beside = [write_whole(f"{output}.data", (array.tobytes() for array in large.values()))] if large else []
    return [write_whole(output, [model.SerializeToString()]), *beside]
