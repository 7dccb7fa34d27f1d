"""The command `export`."""

from collections.abc import Sequence
from typing import Any

from animesion_jax.cli.flags import add_calibration_flags, add_run_flags, parser_of
from animesion_jax.errors import InputError


def run(arguments: Sequence[str]) -> int:
    """Writes a model with its preprocessing and class names; a bundle is calibrated where the data set is there."""
    parser = parser_of(
        "export",
        "Writes a model, its preprocessing and its class names as one file: a bundle (msgpack), which predict reads, "
        "calibrated on the run's validation split so that it can say 'unknown'; ONNX for other runtimes, or "
        "safetensors for torchvision and timm.",
        "--workdir=runs/demo/run --output=demo.msgpack",
    )
    add_run_flags(parser, or_bundle=True)
    parser.add_argument("--output", required=True, help="file to write; local or gs://")
    parser.add_argument(
        "--format",
        choices=("msgpack", "onnx", "safetensors"),
        default="msgpack",
        help="onnx needs the extra [onnx]; default: msgpack",
    )
    parser.add_argument(
        "--preprocessing",
        choices=("inside", "outside"),
        help="where onnx normalises: inside takes uint8 pixels, outside normalised floats; default: outside",
    )
    parser.add_argument("--no_calibration", action="store_true", help="of msgpack: do not look for the data set")
    add_calibration_flags(parser)
    flags = parser.parse_args(arguments)
    from animesion_jax.export.formats import convert

    files = convert(flags.output, flags.format, flags.workdir, flags.weights, flags.bundle, flags.preprocessing)
    for path in files:
        print(f"wrote {path} ({path.stat().length / 1e6:.1f} MB)")
    if flags.format == "msgpack" and not flags.no_calibration:
        print(_calibrate(flags))
    return 0


def _calibrate(flags: Any) -> str:
    """Returns in words what the calibration of the bundle just written says, or why there is none."""
    from animesion_jax.images import find_images

    unknown = find_images(flags.unknown)
    try:
        from animesion_jax.export.calibrate import calibrate

        _, calibration = calibrate(
            flags.output,
            flags.workdir,
            data_dir=flags.data_dir,
            false_accept_rate=flags.false_accept_rate,
            unknown=unknown,
        )
    except (InputError, ImportError) as error:
        return (
            f"not calibrated, so predict names every image ({error}); later: python -m animesion_jax.main calibrate "
            f"--bundle={flags.output} --workdir={flags.workdir}"
        )
    source = calibration["source"]
    return (
        f"calibrated on {source['images']} images of '{source['split']}': below a probability of "
        f"{calibration['threshold']:.3f} a character is unknown; so are {source['false_reject_rate']:.1%} of these "
        f"images, for {calibration['false_accept_rate']:.1%} of unknown characters to be named"
    )
