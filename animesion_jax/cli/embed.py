"""The command `embed`."""

import logging
from collections.abc import Sequence

from animesion_jax.cli.flags import add_images, make_parser

log = logging.getLogger("animesion_jax")


def main(argv: Sequence[str]) -> int:
    """Writes embeddings of images; exit status 1 if a file was unreadable."""
    parser = make_parser(
        "embed",
        "Writes the embedding of each image: the features before the classifier, with unit norm. Images of the same "
        "character have similar embeddings. A *.npz file has the arrays path and embedding, a *.parquet file has such "
        "columns.",
        "--bundle=demo.msgpack --output=faces.npz folder/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--output", required=True, help="file to write, *.npz or *.parquet")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    args = parser.parse_args(argv)
    import numpy as np
    from tqdm import tqdm

    from animesion_jax.errors import InputError, escape
    from animesion_jax.images import find_images
    from animesion_jax.inference.embeddings import check_output, save_embeddings
    from animesion_jax.inference.recognizer import load

    path = check_output(args.output)
    files = find_images(args.images)
    recognizer = load(args.bundle, min(args.batch_size, len(files)))
    names, embeddings = [], [np.zeros((0, recognizer.bundle.num_features), np.float32)]
    bar = tqdm(recognizer.embed_files(files), total=len(files), unit="img", desc="embedding", disable=None, leave=False)
    for file, embedding in bar:
        if isinstance(embedding, InputError):
            log.warning("%s is left out: %s", escape(str(file)), embedding)
        else:
            names.append(str(file))
            embeddings.append(embedding[None])
    save_embeddings(path, names, np.concatenate(embeddings))
    print(f"wrote {escape(str(path))}: {len(names)} embeddings of {recognizer.bundle.num_features} numbers")
    return 1 if len(names) < len(files) else 0
