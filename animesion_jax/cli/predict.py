"""The command `predict`."""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from animesion_jax.cli.flags import add_images, make_parser
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home
from animesion_jax.inference.writers import WRITERS, Row

log = logging.getLogger("animesion_jax")


def main(argv: Sequence[str]) -> int:
    """Names the characters on image files; exit status 1 if a file was unreadable."""
    parser = make_parser(
        "predict", "Names the characters on images.", "--bundle=demo.msgpack --format=json face.jpg folder/"
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--format", choices=tuple(WRITERS), help="format of the printed result; default: table")
    parser.add_argument(
        "--output", help="write to this file instead, *.csv or *.jsonl; images that it already has are skipped"
    )
    parser.add_argument("--copy_to", help="also copy each image to FOLDER/CHARACTER", metavar="FOLDER")
    parser.add_argument("--top_k", type=int, default=5, help="characters per image; default: 5")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    args = parser.parse_args(argv)
    if args.format and args.output:
        raise InputError(
            f"--format={args.format} is for printing and --output={args.output} has its own format; give one of them"
        )
    from tqdm import tqdm

    from animesion_jax.images import find_images
    from animesion_jax.inference.recognizer import load
    from animesion_jax.inference.result_file import ResultFile
    from animesion_jax.inference.sort_images import copy_into_folders

    files = find_images(args.images)
    if args.copy_to:
        _check_outside(args.copy_to, args.images)
    recognizer = load(args.bundle, min(args.batch_size, len(files)))
    left = files
    if args.output:
        result_file = ResultFile(args.output, files, min(args.top_k, len(recognizer.bundle.names)))
        left = result_file.left
        if len(left) < len(files):
            log.info("%s has %d of the %d images", args.output, len(files) - len(left), len(files))
    rows: Iterable[Row] = recognizer.predict_files(left, args.top_k)
    if args.copy_to:
        rows = copy_into_folders(rows, args.copy_to)
    counts: Counter[str] = Counter()
    bar = tqdm(
        rows, initial=len(files) - len(left), total=len(files), unit="img", desc="predicting", disable=None, leave=False
    )
    if args.output:
        try:
            result_file.write(_counted(bar, counts))
        except KeyboardInterrupt:
            log.info("%s keeps the rows written so far; the same command adds the others", args.output)
            raise
    else:
        # Print names that have undecodable bytes, or letters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
        WRITERS[args.format or "table"](_counted(bar, counts), sys.stdout, left)
    if args.output or args.copy_to:
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        log.info("%s", summary or f"{args.output} has all images already")
    return 1 if counts["unreadable"] else 0


def _counted(rows: Iterable[Row], counts: Counter[str]) -> Iterator[Row]:
    for row in rows:
        counts["unreadable" if "error" in row else "unknown" if row["unknown"] else "named"] += 1
        yield row


def _check_outside(folder: str, images: Sequence[str]) -> None:
    """Raises InputError if a second start would predict the copies."""
    target = Path(expand_home(folder)).resolve()
    for name in images:
        given = Path(expand_home(name)).resolve()
        if given.is_dir() and target.is_relative_to(given):
            raise InputError(
                f"--copy_to={folder} is inside {name}, whose images are copied; allowed: a folder outside it"
            )
