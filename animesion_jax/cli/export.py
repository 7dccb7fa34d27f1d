"""The command `export`."""

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from animesion_jax.cli.flags import add_calibration_flags, add_run_flags, make_parser
from animesion_jax.errors import InputError, command

# The form of the hub's identifiers of licences, and its identifier of an unknown licence.
LICENCE, UNKNOWN = re.compile(r"[a-z0-9][a-z0-9.+-]*"), "unknown"


def main(argv: Sequence[str]) -> int:
    """Writes or uploads a model with its preprocessing and class names; calibrates a run's bundle if it can."""
    parser = make_parser(
        "export",
        "Writes a model, its preprocessing and its class names as one file: a bundle (msgpack) for predict and the "
        "other commands, ONNX for other runtimes, or safetensors for torchvision and timm. A bundle is calibrated on "
        "the validation split, so that predict can answer 'unknown'.\n\n--push uploads a bundle to the Hugging Face "
        "Hub, with a model card that it writes. It first prints what it uploads, and where to.",
        "--workdir=runs/demo/run --output=demo.msgpack\n"
        "  animesion export --bundle=demo.msgpack --push=hf://OWNER/REPO",
    )
    add_run_flags(parser, or_bundle=True)
    parser.add_argument("--output", help="file to write; local or gs://; may be left out with --push")
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
    parser.add_argument("--push", metavar="hf://OWNER/REPO[@BRANCH]", help="upload the bundle there, with a model card")
    parser.add_argument("--public", action="store_true", help="with --push: make a new repository public, not private")
    parser.add_argument(
        "--licence", default=UNKNOWN, help="with --push: the model's licence, such as cc-by-nc-4.0; default: unknown"
    )
    args = parser.parse_args(argv)
    _check(args)
    if args.push:
        _push(args)
    else:
        _write(args, args.output)
    return 0


def _check(args: Any) -> None:
    """Raises InputError for an invalid combination of flags."""
    if not args.push:
        for flag, is_given in (("--public", args.public), (f"--licence={args.licence}", args.licence != UNKNOWN)):
            if is_given:
                raise InputError(f"{flag} is for --push; give both")
        if not args.output:
            raise InputError("--output is missing; allowed: a file to write, such as --output=mine.msgpack, or --push")
    elif args.format != "msgpack":
        raise InputError(f"--push uploads a bundle, not --format={args.format}; leave one of them out")
    elif not LICENCE.fullmatch(args.licence):
        raise InputError(
            f"--licence={args.licence}; allowed: an identifier such as apache-2.0 or cc-by-nc-4.0; "
            "https://huggingface.co/docs/hub/repositories-licenses lists them"
        )
    elif args.output and "://" in args.output:
        raise InputError(f"--output={args.output} with --push; allowed: a local file, or none")


def _write(args: Any, output: str) -> None:
    """Writes the file, calibrates a run's bundle, and prints what was done."""
    from animesion_jax.export.formats import convert
    from animesion_jax.files import size
    from animesion_jax.images import find_images

    unknown = find_images(args.unknown)
    files = convert(output, args.format, args.workdir, args.weights, args.bundle, args.preprocessing)
    for path in files if args.output else ():
        print(f"wrote {path} ({size(path) / 1e6:.1f} MB)")
    if args.format == "msgpack" and args.workdir and not args.no_calibration:
        print(_calibrate(args, output, unknown))


def _push(args: Any) -> None:
    """Uploads a bundle, after printing what is uploaded."""
    from animesion_jax.bundle import load_bundle
    from animesion_jax.export.model_card import write_card
    from animesion_jax.export.push import BUNDLE, describe, find_target, upload
    from animesion_jax.files import expand_home
    from animesion_jax.hub import is_address

    # Before the export, which takes long.
    target = find_target(args.push, public=args.public)
    with tempfile.TemporaryDirectory(prefix="animesion_jax_") as folder:
        if args.bundle and not is_address(args.bundle) and not args.output:
            path = expand_home(args.bundle)
        else:
            path = expand_home(args.output or os.path.join(folder, BUNDLE))
            _write(args, path)
        card = write_card(load_bundle(path), target.address, args.licence)
        print(describe(target, Path(path), card), flush=True)
        commit = upload(target, Path(path), card)
    print(f"uploaded to {target.address}; the address of this version is hf://{target.repo}@{commit}")


def _calibrate(args: Any, output: str, unknown: Sequence[Path]) -> str:
    """Calibrates the bundle just written; returns a sentence with the result, or with the reason for a failure.

    Raises:
      InputError: it failed, and --push would upload a bundle that names every image.
    """
    try:
        from animesion_jax.export.calibrate import calibrate

        _, calibration = calibrate(
            output,
            args.workdir,
            data_dir=args.data_dir,
            false_accept_rate=args.false_accept_rate,
            unknown=unknown,
        )
    except (InputError, ImportError) as error:
        if args.push:
            raise InputError(f"cannot calibrate: {error}; or upload it uncalibrated, with --no_calibration") from error
        return (
            f"not calibrated, so predict names every image ({error}); to calibrate later: "
            f"{command('calibrate', bundle=output, workdir=args.workdir)}"
        )
    source = calibration["source"]
    return (
        f"calibrated on {source['images']} images of '{source['split']}': below a probability of "
        f"{calibration['threshold']:.3f} a character is unknown; this rejects {source['false_reject_rate']:.1%} of "
        f"these images and accepts {calibration['false_accept_rate']:.1%} of the images of unknown characters"
    )
