"""The command `export`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from animesion_jax.cli.flags import add_calibration_flags, add_run_flags, make_parser
from animesion_jax.errors import InputError, command


def main(argv: Sequence[str]) -> int:
    """Writes a model with its preprocessing and class names; calibrates a bundle if the data set is built."""
    parser = make_parser(
        "export",
        "Writes a model, its preprocessing and its class names as one file: a bundle (msgpack) for predict and the "
        "other commands, ONNX for other runtimes, or safetensors for torchvision and timm. A bundle is calibrated on "
        "the validation split, so that predict can answer 'unknown'.",
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
        help="input of the ONNX model: inside takes uint8 pixels, outside normalised floats; default: outside",
    )
    parser.add_argument("--no_calibration", action="store_true", help="do not calibrate the bundle")
    add_calibration_flags(parser)
    args = parser.parse_args(argv)
    from animesion_jax.export.formats import convert
    from animesion_jax.files import size
    from animesion_jax.images import find_images

    unknown = find_images(args.unknown)
    files = convert(args.output, args.format, args.workdir, args.weights, args.bundle, args.preprocessing)
    for path in files:
        print(f"wrote {path} ({size(path) / 1e6:.1f} MB)")
    if args.format == "msgpack" and not args.no_calibration:
        print(_calibrate(args, unknown))
    return 0


def _calibrate(args: Any, unknown: Sequence[Path]) -> str:
    """Calibrates the bundle just written; returns a sentence with the result, or with the reason for a failure."""
    try:
        from animesion_jax.export.calibrate import calibrate

        _, calibration = calibrate(
            args.output,
            args.workdir,
            data_dir=args.data_dir,
            false_accept_rate=args.false_accept_rate,
            unknown=unknown,
        )
    except (InputError, ImportError) as error:
        return (
            f"not calibrated, so predict names every image ({error}); to calibrate later: "
            f"{command('calibrate', bundle=args.output, workdir=args.workdir)}"
        )
    source = calibration["source"]
    return (
        f"calibrated on {source['images']} images of '{source['split']}': below a probability of "
        f"{calibration['threshold']:.3f} a character is unknown; at a false accept rate of "
        f"{calibration['false_accept_rate']:.1%}, {source['false_reject_rate']:.1%} of these images are rejected"
    )
