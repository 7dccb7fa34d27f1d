"""The command `predict`."""

import argparse
import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from animesion_jax.cli.flags import add_images, make_parser, use_utf8_output
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home, local_path
from animesion_jax.inference.sidecars import FORMATS as SIDECARS
from animesion_jax.inference.writers import UNKNOWN, WRITERS, Row, write_table

log = logging.getLogger("animesion_jax")

# Results of images, in the order of the summary.
KINDS = ("named", UNKNOWN, "with an error")


def main(argv: Sequence[str]) -> int:
    """Names the characters on image files; exit status 1 if an image has an error."""
    args = _parse(argv)
    from tqdm import tqdm

    from animesion_jax.images import find_images
    from animesion_jax.inference.recognizer import load
    from animesion_jax.inference.result_file import open_result_file
    from animesion_jax.inference.sidecars import Sidecars
    from animesion_jax.inference.sort_images import copy_into_folders

    files = left = find_images(args.images)
    if args.copy_to:
        _check_outside(args.copy_to, args.images)
    if args.sidecar:
        sidecars = Sidecars(files, args.images, args.sidecar, args.sidecar_to, args.overwrite)
    with open_result_file(args.output) if args.output else contextlib.nullcontext() as result_file:
        recognizer = load(args.bundle, min(args.batch_size, len(files)))
        if args.output:
            left = result_file.missing(files, recognizer.bundle.names, args.top_k)
        done = len(files) - len(left)
        if done:
            log.info("%s already has %d of the %d images, which are skipped", args.output, done, len(files))
        rows: Iterable[Row] = recognizer.predict_files(left, args.top_k)
        if args.copy_to:
            rows = copy_into_folders(rows, args.copy_to)
        if args.sidecar:
            rows = sidecars.write(rows)
        counts: Counter[str] = Counter()
        # Rows on a terminal show the progress; a bar would be drawn among them.
        disable = None if args.output or not sys.stdout.isatty() else True
        bar = tqdm(rows, initial=done, total=len(files), unit="img", desc="predicting", disable=disable, leave=False)
        rows = _counted(bar, counts)
        if args.output:
            try:
                result_file.write(rows)
            except KeyboardInterrupt:
                log.info("%s has the rows written so far; run the same command again to add the others", args.output)
                raise
        elif args.format in WRITERS:
            use_utf8_output()
            WRITERS[args.format](rows, sys.stdout)
        else:
            write_table(rows, sys.stdout, left, recognizer.bundle.names)
            print(_summary(counts))
    if args.output or (args.format in WRITERS and (args.copy_to or args.sidecar)):
        log.info("%s", _summary(counts) if counts else f"{args.output} already has all images")
    if args.sidecar:
        hint = "; --overwrite replaces them" if sidecars.counts["kept"] and not args.overwrite else ""
        log.info("text files: %s%s", sidecars.summary, hint)
    return 1 if counts["with an error"] else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = make_parser(
        "predict", "Names the characters on images.", "--bundle=demo.msgpack --format=json face.jpg folder/"
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
    parser.add_argument("--top_k", type=int, default=5, help="characters per image; default: 5")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    args = parser.parse_args(_with_format(argv))
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
        counts["with an error" if "error" in row else UNKNOWN if row["unknown"] else "named"] += 1
        yield row


def _summary(counts: Counter[str]) -> str:
    """Returns the counts in words, such as "20 images: 19 named, 1 unknown"."""
    images = counts.total()
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
    return f"{images} image{'s' * (images != 1)}: {kinds}"


def _check_outside(folder: str, images: Sequence[str]) -> None:
    """Raises InputError if a second start would predict the copies, or the folder is an address."""
    target = local_path(folder).resolve()
    for name in images:
        given = Path(expand_home(name)).resolve()
        if given.is_dir() and target.is_relative_to(given):
            raise InputError(
                f"--copy_to={folder} is inside {name}, whose images are copied; allowed: a folder outside it"
            )
