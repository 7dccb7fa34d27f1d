"""The command `calibrate`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import add_calibration_flags, parser_of


def run(arguments: Sequence[str]) -> int:
    """Calibrates a bundle; prints what was found as JSON."""
    parser = parser_of(
        "calibrate",
        "Finds on validation images how sure a bundle may be, and below which probability a character is unknown; "
        "export has done so already where it found the data set.",
        "--bundle=demo.msgpack --workdir=runs/demo/run --false_accept_rate=0.05",
    )
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--workdir", required=True, help="the run that it is of, which says where its images are")
    parser.add_argument("--output", help="file to write; default: the bundle itself")
    parser.add_argument("--split", help="images to calibrate on; default: config.validation_split of the run")
    add_calibration_flags(parser)
    flags = parser.parse_args(arguments)
    from animesion_jax.export.calibrate import calibrate
    from animesion_jax.images import find_images

    path, calibration = calibrate(
        flags.bundle,
        flags.workdir,
        flags.output,
        split=flags.split,
        data_dir=flags.data_dir,
        false_accept_rate=flags.false_accept_rate,
        unknown=find_images(flags.unknown),
    )
    print(json.dumps({"bundle": str(path), **calibration}, indent=2))
    return 0
