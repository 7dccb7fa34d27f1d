"""The command `predict`."""

import sys
from collections.abc import Sequence

from animesion_jax.command_line import parser_of
from animesion_jax.predictions import WRITERS


def run(arguments: Sequence[str]) -> int:
    """Names the characters on image files; exit status 1 when a file was unreadable."""
    parser = parser_of(
        "predict", "Names the characters on images.", "--bundle=demo.msgpack --format=json face.jpg folder/"
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are searched for images")
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--format", choices=tuple(WRITERS), default="table", help="default: table")
    parser.add_argument("--top_k", type=int, default=5, help="characters per image; default: 5")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    flags = parser.parse_args(arguments)
    from tqdm import tqdm

    from animesion_jax.predict import find_images, load, predict_files

    files = find_images(flags.images)
    recognizer = load(flags.bundle, min(flags.batch_size, len(files)))
    results = predict_files(recognizer, files, flags.top_k)
    rows = list(tqdm(results, total=len(files), unit="img", desc="predicting", disable=None, leave=False))
    # A name may have bytes that are no text, and the terminal's encoding may lack letters: no reason to print nothing.
    sys.stdout.reconfigure(errors="backslashreplace")
    WRITERS[flags.format](rows)
    return 1 if any("error" in row for row in rows) else 0
