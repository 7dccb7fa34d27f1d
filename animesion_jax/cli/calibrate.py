"""The command `calibrate`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import add_calibration_flags, make_parser


def main(argv: Sequence[str]) -> int:
    """Calibrates a bundle; prints the calibration as JSON."""
    parser = make_parser(
        "calibrate",
        "Calibrates the probabilities of a bundle on validation images, and sets the threshold below which a character "
        "is unknown. export does the same where it finds the data set.",
        "--bundle=demo.msgpack --workdir=runs/demo/run --false_accept_rate=0.05",
    )
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--workdir", required=True, help="the run of the bundle, whose data set has the images")
    parser.add_argument("--output", help="file to write; default: the bundle itself")
    parser.add_argument("--split", help="split to calibrate on; default: config.validation_split of the run")
    add_calibration_flags(parser)
    args = parser.parse_args(argv)
    from animesion_jax.bundle import updating
    from animesion_jax.export.calibrate import calibrate
    from animesion_jax.images import find_images

    unknown = find_images(args.unknown)
    with updating(args.bundle, args.output or args.bundle):
        path, calibration = calibrate(
            args.bundle,
            args.workdir,
            args.output,
            split=args.split,
            data_dir=args.data_dir,
            false_accept_rate=args.false_accept_rate,
            unknown=unknown,
        )
    print(json.dumps({"bundle": str(path), **calibration}, indent=2))
    return 0
