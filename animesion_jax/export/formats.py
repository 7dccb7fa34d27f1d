"""The formats that `export` writes: msgpack, onnx and safetensors."""

import os

from etils import epath

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.export.run_to_bundle import bundle_of_run, export
from animesion_jax.export.safetensors import write_safetensors
from animesion_jax.files import expand_home

# Usual endings of the formats; endings that are not listed are allowed for any.
ENDINGS = {"msgpack": ".msgpack", "onnx": ".onnx", "safetensors": ".safetensors"}


def convert(
    output: str,
    form: str,
    workdir: str | None = None,
    weights: str | None = None,
    bundle: str | None = None,
    preprocessing: str | None = None,
) -> list[epath.Path]:
    """Writes a run or a bundle in a format; returns the files.

    Args:
      output: file to write; local or gs://.
      form: "msgpack", "onnx" or "safetensors".
      workdir, weights: as in `export`.
      bundle: a bundle's file, in place of a workdir.
      preprocessing: "inside" or "outside" the graph, for ONNX; None for outside.

    Raises:
      InputError: arguments that exclude each other, a missing package, or an error of `export`, `load_bundle` or the
        writers.
    """
    if preprocessing and form != "onnx":
        raise InputError(f"--preprocessing={preprocessing} is for --format=onnx; give both")
    if bundle and weights:
        raise InputError(f"--weights={weights} is for --workdir; a bundle has one set of weights")
    stem, ending = os.path.splitext(output)
    if ending in ENDINGS.values() and ending != ENDINGS[form]:
        raise InputError(
            f"--output={output} has the ending of another format than --format={form}; allowed: {stem}{ENDINGS[form]}, "
            "or another --format"
        )
    if form == "msgpack" and bundle:
        raise InputError(f"{bundle} is already a msgpack bundle; allowed with --bundle: --format=onnx, safetensors")
    if form == "msgpack":
        return [export(workdir, output, weights)]
    if bundle and os.path.realpath(expand_home(output)) == os.path.realpath(expand_home(bundle)):
        raise InputError(f"--output={output} would overwrite the bundle itself; allowed: another file")
    source = load_bundle(bundle) if bundle else bundle_of_run(workdir, weights)
    if form == "onnx":
        try:
            from animesion_jax.export.onnx import write_onnx
        except ModuleNotFoundError as error:
            raise InputError("--format=onnx needs the package onnx; pip install 'animesion_jax[onnx]'") from error
        return write_onnx(source, output, normalize_inside=preprocessing == "inside")
    return write_safetensors(source, output)
