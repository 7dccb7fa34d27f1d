"""The command `embed`."""

import logging
from collections.abc import Sequence

from animesion_jax.cli.flags import add_detector_flags, add_images, check_detector_flags, make_parser

log = logging.getLogger("animesion_jax")


def main(argv: Sequence[str]) -> int:
    """Writes embeddings of images; exit status 1 if a file was unreadable."""
    parser = make_parser(
        "embed",
        "Writes the embedding of each image: the features before the classifier, with unit norm. Images of the same "
        "character have similar embeddings. A *.npz file has the arrays path and embedding, a *.parquet file has such "
        "columns.\n\nWith --detector, writes the embedding of each head on whole pictures, and the arrays box and "
        "confidence.",
        "--bundle=demo.msgpack --output=faces.npz folder/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--output", required=True, help="file to write, *.npz or *.parquet")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    add_detector_flags(parser)
    args = parser.parse_args(argv)
    check_detector_flags(args)
    import numpy as np
    from tqdm import tqdm

    from animesion_jax.bundle import load_bundle
    from animesion_jax.errors import InputError, escape
    from animesion_jax.images import find_images
    from animesion_jax.inference.embeddings import check_output, embed, save_embeddings
    from animesion_jax.inference.heads import head_finder
    from animesion_jax.inference.recognizer import Recognizer

    path = check_output(args.output)
    files = find_images(args.images)
    batch_size = args.batch_size if args.detector else min(args.batch_size, len(files))
    recognizer = Recognizer(load_bundle(args.bundle), batch_size)
    finder = head_finder(recognizer.bundle, args.detector, args.min_confidence) if args.detector else None
    names, heads, unreadable, without = [], [], 0, 0
    embeddings = [np.zeros((0, recognizer.bundle.num_features), np.float32)]
    outputs = embed(recognizer, files, finder)
    for file, about, rows in tqdm(outputs, total=len(files), unit="img", desc="embedding", disable=None, leave=False):
        if isinstance(about, InputError):
            log.warning("%s is left out: %s", escape(str(file)), about)
            unreadable += 1
            continue
        names += [str(file)] * len(rows)
        heads += about or []
        embeddings += [row[None] for row in rows]
        without += not rows
    save_embeddings(path, names, np.concatenate(embeddings), heads if finder else None)
    if without:
        log.warning("no head was found on %d of %d pictures", without, len(files))
    print(f"wrote {escape(str(path))}: {len(names)} embeddings of {recognizer.bundle.num_features} numbers")
    return 1 if unreadable else 0
