"""The bundle: one msgpack file with a model, its preprocessing, its class names and their origin."""

from animesion_jax.bundle.bundle import Bundle, Calibration, Crops, Enrolled, build_bundle
from animesion_jax.bundle.files import ENDING, FORMAT, VERSION, extend_bundle, is_onnx, load_bundle, write_bundle
from animesion_jax.bundle.model_metadata import ModelMetadata, metadata, read_metadata
from animesion_jax.bundle.updating import updating

__all__ = [
    "ENDING",
    "FORMAT",
    "VERSION",
    "Bundle",
    "Calibration",
    "Crops",
    "Enrolled",
    "ModelMetadata",
    "build_bundle",
    "extend_bundle",
    "is_onnx",
    "load_bundle",
    "metadata",
    "read_metadata",
    "updating",
    "write_bundle",
]
