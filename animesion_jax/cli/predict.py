"""The command `predict`."""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from animesion_jax.cli.flags import add_images, parser_of
from animesion_jax.errors import InputError
from animesion_jax.inference.writers import WRITERS, Row

log = logging.getLogger("animesion_jax")


def run(arguments: Sequence[str]) -> int:
    """Names the characters on image files; exit status 1 when a file was unreadable."""
    parser = parser_of(
        "predict", "Names the characters on images.", "--bundle=demo.msgpack --format=json face.jpg folder/"
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--format", choices=tuple(WRITERS), help="what is printed; default: table")
    parser.add_argument(
        "--output", help="write to this file instead, *.csv or *.jsonl; images that it has already are skipped"
    )
    parser.add_argument("--copy_to", help="also copy each image to a folder of this one, named after its character")
    parser.add_argument("--top_k", type=int, default=5, help="characters per image; default: 5")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    flags = parser.parse_args(arguments)
    if flags.format and flags.output:
        raise InputError(
            f"--format={flags.format} is for what is printed; --output={flags.output} has its own; give one"
        )
    from tqdm import tqdm

    from animesion_jax.images import find_images
    from animesion_jax.inference.recognizer import load
    from animesion_jax.inference.result_file import ResultFile
    from animesion_jax.inference.sort_images import copy_into_folders

    files = find_images(flags.images)
    if flags.copy_to:
        _check_outside(flags.copy_to, flags.images)
    recognizer = load(flags.bundle, min(flags.batch_size, len(files)))
    result_file, left = None, files
    if flags.output:
        ranks = min(flags.top_k, len(recognizer.bundle.names))
        result_file = ResultFile(flags.output, files, ranks)
        left = result_file.left
    if len(left) < len(files):
        log.info("%s has %d of the %d images", flags.output, len(files) - len(left), len(files))
    rows: Iterable[Row] = recognizer.predict_files(left, flags.top_k)
    if flags.copy_to:
        rows = copy_into_folders(rows, flags.copy_to)
    counts: Counter[str] = Counter()
    bar = tqdm(
        rows, initial=len(files) - len(left), total=len(files), unit="img", desc="predicting", disable=None, leave=False
    )
    if result_file:
        try:
            result_file.write(_counted(bar, counts))
        except KeyboardInterrupt:
            log.info("%s keeps the rows written so far; the same command adds the others", flags.output)
            raise
    else:
        # A name may have bytes that are no text, and the terminal's encoding may lack letters: no reason to print
        # nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
        WRITERS[flags.format or "table"](_counted(bar, counts), sys.stdout, left)
    if flags.output or flags.copy_to:
        summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        log.info("%s", summary or f"{flags.output} has all images already")
    return 1 if counts["unreadable"] else 0


def _counted(rows: Iterable[Row], counts: Counter[str]) -> Iterator[Row]:
    for row in rows:
        counts["unreadable" if "error" in row else "unknown" if row["unknown"] else "named"] += 1
        yield row


def _check_outside(folder: str, images: Sequence[str]) -> None:
    """Raises InputError for copies that a second start would take for images to predict."""
    target = Path(folder).expanduser().resolve()
    for name in images:
        given = Path(name).expanduser().resolve()
        if given.is_dir() and target.is_relative_to(given):
            raise InputError(
                f"--copy_to={folder} is inside {name}, whose images are copied; allowed: a folder elsewhere"
            )
