"""The command `predict`."""

import argparse
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from animesion_jax.cli.flags import (
    add_detector_flags,
    add_images,
    check_detector_flags,
    make_parser,
    use_utf8_output,
)
from animesion_jax.cli.progress import ERROR, NO_HEAD, show_progress
from animesion_jax.errors import InputError
from animesion_jax.inference.rows import UNKNOWN, Row, has_heads
from animesion_jax.inference.sidecars import FORMATS as SIDECARS
from animesion_jax.inference.writers import PICTURES_WRITERS, WRITERS, write_table

if TYPE_CHECKING:
    from animesion_jax.inference.namer import Namer

log = logging.getLogger("animesion_jax")

# Results of images, in the order of the summary.
KINDS = ("named", UNKNOWN, NO_HEAD, ERROR)


def main(argv: Sequence[str]) -> int:
    """Names the characters on image files; exit status 1 if an image has an error."""
    args = _parse(argv)
    from animesion_jax.images import find_images
    from animesion_jax.inference.named_files import check_outside
    from animesion_jax.inference.recognizer import load
    from animesion_jax.inference.result_file import IMAGES, PICTURES, open_result_file
    from animesion_jax.inference.sidecars import Sidecars
    from animesion_jax.inference.sort_images import copy_into_folders

    pictures = bool(args.detector)
    writers, content = (PICTURES_WRITERS, PICTURES) if pictures else (WRITERS, IMAGES)
    files = left = find_images(args.images)
    if args.copy_to:
        check_outside(args.copy_to, "copy_to", args.images)
    if args.sidecar:
        sidecars = Sidecars(files, args.images, args.sidecar, args.sidecar_to, args.overwrite)
    with open_result_file(args.output, content) if args.output else contextlib.nullcontext() as result_file:
        # A picture may have more heads than there are files.
        recognizer = load(args.bundle, args.batch_size if pictures else min(args.batch_size, len(files)))
        if args.output:
            left = result_file.missing(files, recognizer.bundle.names, args.top_k)
        done = len(files) - len(left)
        if done:
            log.info("%s already has %d of the %d images, which are skipped", args.output, done, len(files))
        rows = _predict(args, recognizer, left)
        if args.copy_to:
            rows = copy_into_folders(rows, args.copy_to)
        if args.sidecar:
            rows = sidecars.write(rows)
        counts: Counter[str] = Counter()
        rows = _counted(show_progress(rows, done, len(files), "predicting", bool(args.output)), counts)
        if args.output:
            result_file.write(rows)
        elif args.format in writers:
            use_utf8_output()
            writers[args.format](rows, sys.stdout)
        else:
            write_table(rows, sys.stdout, left, recognizer.bundle.names, pictures)
            print(_summary(counts, pictures))
    if args.output or (args.format in writers and (args.copy_to or args.sidecar)):
        log.info("%s", _summary(counts, pictures) if counts else f"{args.output} already has all images")
    if args.sidecar:
        hint = "; --overwrite replaces them" if sidecars.counts["kept"] and not args.overwrite else ""
        log.info("text files: %s%s", sidecars.summary, hint)
    return 1 if counts[ERROR] else 0


def _predict(args: argparse.Namespace, recognizer: "Namer", files: Sequence[Path]) -> Iterable[Row]:
    """Returns the rows of images, or of whole pictures with a detector."""
    if not args.detector:
        return recognizer.predict_files(files, args.top_k)
    from animesion_jax.inference.heads import head_finder

    finder = head_finder(recognizer.bundle, args.detector, args.min_confidence)
    return recognizer.predict_pictures(files, finder, args.top_k, whole_if_none=args.whole_if_none)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = make_parser(
        "predict",
        "Names the characters on images. With --detector, finds the heads on whole pictures and names each.",
        "--bundle=demo.msgpack --format=json face.jpg folder/\n"
        "  animesion predict --bundle=demo.msgpack --detector=auto picture.jpg",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--format", choices=("table", *WRITERS), help="format of the printed result; default: table")
    parser.add_argument(
        "--output", help="write to this file instead, *.csv or *.jsonl; images that it already has are skipped"
    )
    parser.add_argument("--copy_to", help="also copy each image to FOLDER/CHARACTER", metavar="FOLDER")
    parser.add_argument(
        "--sidecar",
        nargs="?",
        choices=tuple(SIDECARS),
        metavar="FORMAT",
        help="also write the character of each image to IMAGE.txt beside it, unless it is unknown; --sidecar=hydrus "
        "writes character:NAME instead of NAME",
    )
    parser.add_argument("--sidecar_to", help="with --sidecar: write the text files below this folder", metavar="FOLDER")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="with --sidecar: replace existing text files; empty those of unknown ones",
    )
    parser.add_argument("--top_k", type=int, default=5, help="characters per image or head; default: 5")
    add_detector_flags(parser)
    parser.add_argument(
        "--whole_if_none", action="store_true", help="with --detector: name a picture without a head as a whole"
    )
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    args = parser.parse_args(_with_format(argv))
    check_detector_flags(args)
    if args.whole_if_none and not args.detector:
        raise InputError("--whole_if_none is for --detector; give both")
    if args.format and args.output:
        raise InputError(
            f"--format={args.format} is for printing and --output={args.output} has its own format; give one of them"
        )
    if not args.sidecar and (args.sidecar_to or args.overwrite):
        flag = "--overwrite" if args.overwrite else f"--sidecar_to={args.sidecar_to}"
        raise InputError(f"{flag} is for --sidecar; give both")
    return args


def _with_format(argv: Sequence[str]) -> list[str]:
    """Adds the default format to --sidecar; argparse would read the path after it as the format."""
    end = argv.index("--") if "--" in argv else len(argv)
    following = [*argv[1:end], ""]
    default = f"--sidecar={next(iter(SIDECARS))}"
    flags = [
        default if word == "--sidecar" and after not in SIDECARS else word
        for word, after in zip(argv[:end], following, strict=False)
    ]
    return [*flags, *argv[end:]]


def _counted(rows: Iterable[Row], counts: Counter[str]) -> Iterator[Row]:
    for row in rows:
        counts["images"] += 1
        if "error" in row:
            counts[ERROR] += 1
        elif not has_heads(row):
            counts[NO_HEAD] += 1
        for head in row.get("faces", [row]):
            if "predictions" in head:
                counts[UNKNOWN if head["unknown"] else "named"] += 1
        yield row


def _summary(counts: Counter[str], pictures: bool) -> str:
    """Returns the counts in words: "20 images: 19 named, 1 unknown", or "9 pictures with 20 heads: 20 named"."""
    number, heads = counts["images"], counts["named"] + counts[UNKNOWN]
    what = "picture" if pictures else "image"
    with_heads = f" with {heads} head{'s' * (heads != 1)}" if pictures else ""
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return f"{number} {what}{'s' * (number != 1)}{with_heads}: {kinds}"
