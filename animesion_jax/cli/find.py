"""The command `find`."""

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from animesion_jax.cli.flags import add_detector_flags, add_images, make_parser, use_utf8_output
from animesion_jax.cli.progress import ERROR, NO_HEAD, show_progress

if TYPE_CHECKING:
    from animesion_jax.detection import Detector
    from animesion_jax.inference.rows import Row
    from animesion_jax.preprocessing import Margin

log = logging.getLogger("animesion_jax")


def main(argv: Sequence[str]) -> int:
    """Finds the heads on whole pictures; exit status 1 if a picture has an error."""
    parser = make_parser(
        "find",
        "Finds the heads on whole pictures. Writes a JSON line for each picture, and on demand the heads as images and "
        "the pictures with numbered boxes.",
        "--detector=heads.onnx --output=boxes.jsonl --crops=heads/ folder/",
        compiles=False,
    )
    add_images(parser)
    add_detector_flags(parser)
    parser.add_argument(
        "--bundle", help="cut the crops with the margin of this bundle; --detector=auto takes the bundle's detector"
    )
    parser.add_argument("--output", help="write to this file, *.jsonl; pictures that it already has are skipped")
    parser.add_argument("--crops", metavar="FOLDER", help="also write each head to FOLDER/PICTURE.NUMBER.png")
    parser.add_argument("--overlays", metavar="FOLDER", help="also write FOLDER/PICTURE.png with numbered boxes")
    args = parser.parse_args(argv)
    from animesion_jax.images import find_images
    from animesion_jax.inference.find import crop_saver, find_heads, overlay_saver
    from animesion_jax.inference.named_files import check_outside
    from animesion_jax.inference.result_file import BOXES, open_result_file
    from animesion_jax.inference.writers import write_jsonl

    for flag in ("crops", "overlays"):
        if getattr(args, flag):
            check_outside(getattr(args, flag), flag, args.images)
    files = left = find_images(args.images)
    counts: Counter[str] = Counter()
    with open_result_file(args.output, BOXES) if args.output else contextlib.nullcontext() as result_file:
        if args.output:
            left = result_file.missing(files)
        done = len(files) - len(left)
        if done:
            log.info("%s already has %d of the %d pictures, which are skipped", args.output, done, len(files))
        detector, margin = _load(args.detector, args.min_confidence, args.bundle)
        savers = [crop_saver(args.crops, files, args.images, margin)] if args.crops else []
        savers += [overlay_saver(args.overlays, files, args.images)] if args.overlays else []
        found = find_heads(left, detector, savers)
        rows = _counted(show_progress(found, done, len(files), "finding heads", bool(args.output)), counts)
        if not args.output:
            use_utf8_output()
            write_jsonl(rows, sys.stdout)
        else:
            result_file.write(rows)
    log.info("%s", _summary(counts) if counts else f"{args.output} already has all pictures")
    return 1 if counts[ERROR] else 0


def _load(name: str | None, min_confidence: float | None, bundle: str | None) -> tuple["Detector", "Margin"]:
    """Returns the detector, and the bundle's margin for it; without a bundle, the boxes are cut as they are."""
    from animesion_jax.detection import AUTO, DEFAULT, load_detector
    from animesion_jax.preprocessing import Margin

    name = name or AUTO
    if not bundle:
        return load_detector(DEFAULT if name == AUTO else name, min_confidence), Margin(1.0, 0.0, "squash")
    from animesion_jax.inference.heads import head_finder
    from animesion_jax.inference.recognizer import load

    finder = head_finder(load(bundle).bundle, name, min_confidence)
    return finder.detector, finder.margin


def _counted(rows: Iterable["Row"], counts: Counter[str]) -> Iterator["Row"]:
    for row in rows:
        counts["pictures"] += 1
        counts["heads"] += len(row.get("faces", []))
        counts[ERROR] += "error" in row
        counts[NO_HEAD] += row.get("faces") == []
        yield row


def _summary(counts: Counter[str]) -> str:
    """Returns the counts in words, such as "20 pictures: 31 heads, 2 without a head"."""
    pictures, heads = counts["pictures"], counts["heads"]
    parts = [
        f"{heads} head{'s' * (heads != 1)}",
        *(f"{counts[kind]} {kind}" for kind in (NO_HEAD, ERROR) if counts[kind]),
    ]
    return f"{pictures} picture{'s' * (pictures != 1)}: {', '.join(parts)}"
