"""The command `calibrate`."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from animesion_jax.cli.flags import add_calibration_flags, add_detector_flags, make_parser
from animesion_jax.cli.labelled_folder import find_labelled_images
from animesion_jax.errors import InputError, command

# Flags that go with --workdir only, or with --pictures only.
OF_A_RUN = ("split", "false_accept_rate", "unknown", "data_dir")
OF_PICTURES = ("detector", "min_confidence")


def main(argv: Sequence[str]) -> int:
    """Calibrates a bundle; prints the calibration, or the margin, as JSON."""
    parser = make_parser(
        "calibrate",
        "With --workdir, calibrates the probabilities of a bundle on validation images, and sets the threshold below "
        "which a character is unknown. export does the same where it finds the data set.\n\nWith --pictures, finds the "
        "margin around the boxes of a detector with which the model is most accurate, and stores it in the bundle. "
        "Prints the accuracy with each margin.",
        "--bundle=demo.msgpack --workdir=runs/demo/run --false_accept_rate=0.05\n"
        "  animesion calibrate --bundle=demo.msgpack --detector=heads.onnx --pictures=folder/",
    )
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--output", help="file to write; default: the bundle itself")
    parser.add_argument("--workdir", help="the run of the bundle, whose data set has the images")
    parser.add_argument("--split", help="split to calibrate on; default: config.validation_split of the run")
    add_calibration_flags(parser)
    parser.add_argument(
        "--pictures", metavar="FOLDER", help="whole pictures with one head each, in folders named after the characters"
    )
    add_detector_flags(parser)
    args = parser.parse_args(argv)
    _check(args)
    from animesion_jax.bundle import updating

    with updating(args.bundle, args.output or args.bundle):
        printed = _find_margin(args) if args.pictures else _calibrate(args)
    print(json.dumps(printed, indent=2))
    return 0


def _check(args: Namespace) -> None:
    """Raises InputError for an invalid combination of flags."""
    if bool(args.workdir) == bool(args.pictures):
        raise InputError(
            f"{'both' if args.workdir else 'neither'} of --workdir and --pictures given; allowed: --workdir=RUN, which "
            "sets the threshold for unknown characters, or --pictures=FOLDER, which finds the margin of a detector"
        )
    given, others = ("pictures", OF_A_RUN) if args.pictures else ("workdir", OF_PICTURES)
    for name in others:
        if getattr(args, name) not in (None, []):
            needed = "workdir" if args.pictures else "pictures"
            raise InputError(f"--{name} is for --{needed}, not for --{given}; give --{needed} instead")


def _calibrate(args: Namespace) -> dict[str, Any]:
    from animesion_jax.export.calibrate import calibrate
    from animesion_jax.images import find_images

    path, calibration = calibrate(
        args.bundle,
        args.workdir,
        args.output,
        split=args.split,
        data_dir=args.data_dir,
        false_accept_rate=args.false_accept_rate,
        unknown=find_images(args.unknown),
    )
    return {"bundle": str(path), **calibration}


def _find_margin(args: Namespace) -> dict[str, Any]:
    from animesion_jax.bundle import extend_bundle, load_bundle
    from animesion_jax.detection import AUTO
    from animesion_jax.inference.heads import choose_detector
    from animesion_jax.inference.margin import describe, find_margin

    def suggest(folder: str) -> str:
        detector = {"detector": args.detector} if args.detector else {}
        return command("calibrate", bundle=args.bundle, **detector, pictures=folder)

    images = find_labelled_images(args.pictures, suggest)
    bundle = load_bundle(args.bundle)
    crops, tried = find_margin(bundle, choose_detector(bundle, args.detector or AUTO, args.min_confidence), images)
    described = crops.to_tree()
    path = extend_bundle(args.bundle, args.output or args.bundle, crops=described)
    print(describe(tried, crops.margin), file=sys.stderr)
    return {"bundle": str(path), **described}
