"""The bundle: one msgpack file with a model, its preprocessing, its class names and their origin."""

from animesion_jax.bundle.bundle import (
    FORMAT,
    VERSION,
    Bundle,
    Calibration,
    Enrolled,
    build_bundle,
    extend_bundle,
    load_bundle,
    metadata,
    write_bundle,
)
from animesion_jax.bundle.updating import updating

__all__ = [
    "FORMAT",
    "VERSION",
    "Bundle",
    "Calibration",
    "Enrolled",
    "build_bundle",
    "extend_bundle",
    "load_bundle",
    "metadata",
    "updating",
    "write_bundle",
]
