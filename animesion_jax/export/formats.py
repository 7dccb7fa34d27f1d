"""The formats that `export` writes: msgpack, onnx and safetensors."""

import os

from etils import epath

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.export.onnx import write_onnx
from animesion_jax.export.run_to_bundle import bundle_of_run, export
from animesion_jax.export.safetensors import write_safetensors

# The ending that a file of a format usually has; any other is anybody's.
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
      preprocessing: of ONNX, "inside" or "outside" the graph; None for outside.

    Raises:
      InputError: arguments that do not go together, or what `export`, `load_bundle` and the writers raise.
    """
    if preprocessing and form != "onnx":
        raise InputError(f"--preprocessing={preprocessing} is for --format=onnx; give both")
    if bundle and weights:
        raise InputError(f"--weights={weights} is for --workdir; a bundle holds one set of weights")
    stem, ending = os.path.splitext(output)
    if ending in ENDINGS.values() and ending != ENDINGS[form]:
        raise InputError(
            f"--output={output} is named like another format than --format={form}; allowed: {stem}{ENDINGS[form]}, or "
            "another --format"
        )
    if form == "msgpack" and bundle:
        raise InputError(f"{bundle} is a bundle already, in msgpack; allowed with --bundle: --format=onnx, safetensors")
    if form == "msgpack":
        return [export(workdir, output, weights)]
    if bundle and os.path.realpath(os.path.expanduser(output)) == os.path.realpath(os.path.expanduser(bundle)):
        raise InputError(f"--output={output} is the bundle itself, which would be lost; allowed: another file")
    source = load_bundle(bundle) if bundle else bundle_of_run(workdir, weights)
    if form == "onnx":
        return write_onnx(source, output, normalize_inside=preprocessing == "inside")
    return write_safetensors(source, output)
