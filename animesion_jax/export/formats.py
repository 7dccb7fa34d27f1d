"""The formats that `export` writes: msgpack, onnx and safetensors."""

import os
from collections.abc import Callable
from functools import partial

from etils import epath

from animesion_jax import hub
from animesion_jax.bundle import Bundle, extend_bundle, load_bundle
from animesion_jax.errors import InputError
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
      bundle: a bundle's file or address, in place of a workdir. An address may be copied as "msgpack" too.
      preprocessing: "inside" or "outside" the graph, for ONNX; None for outside.

    Raises:
      InputError: arguments that exclude each other, or an error of `export`, `load_bundle` or the writers.
      ModuleNotFoundError: the extra [onnx] is missing, or [train] for a workdir.
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
    if form == "msgpack" and bundle and hub.is_address(bundle):
        return [extend_bundle(bundle, output)]
    if form == "msgpack" and bundle:
        raise InputError(f"{bundle} is already a msgpack bundle; allowed with --bundle: --format=onnx, safetensors")
    if form == "msgpack":
        from animesion_jax.export.run_to_bundle import export

        return [export(workdir, output, weights)]
    if bundle and os.path.realpath(expand_home(output)) == os.path.realpath(expand_home(bundle)):
        raise InputError(f"--output={output} would overwrite the bundle itself; allowed: another file")
    write = _onnx_writer(preprocessing == "inside") if form == "onnx" else write_safetensors
    return write(_read(workdir, weights, bundle), output)


# The imports are in the functions, because a run needs the extra [train], ONNX the extra [onnx], and a bundle neither.


def _onnx_writer(normalize_inside: bool) -> Callable[[Bundle, str], list[epath.Path]]:
    from animesion_jax.export.onnx import write_onnx

    return partial(write_onnx, normalize_inside=normalize_inside)


def _read(workdir: str | None, weights: str | None, bundle: str | None) -> Bundle:
    if bundle:
        return load_bundle(bundle)
    from animesion_jax.export.run_to_bundle import bundle_of_run

    return bundle_of_run(workdir, weights)
