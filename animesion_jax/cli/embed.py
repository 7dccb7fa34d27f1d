"""The command `embed`."""

import logging
from collections.abc import Sequence

from animesion_jax.cli.flags import add_images, parser_of

log = logging.getLogger("animesion_jax")


def run(arguments: Sequence[str]) -> int:
    """Writes embeddings of images; exit status 1 when a file was unreadable."""
    parser = parser_of(
        "embed",
        "Writes what the model makes of each image before it names a character: a vector of unit norm, alike for "
        "images of one character. *.npz has the arrays path and embedding, *.parquet such columns.",
        "--bundle=demo.msgpack --output=faces.npz folder/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--output", required=True, help="file to write, *.npz or *.parquet")
    parser.add_argument("--batch_size", type=int, default=32, help="images per forward pass; default: 32")
    flags = parser.parse_args(arguments)
    import numpy as np
    from tqdm import tqdm

    from animesion_jax.errors import InputError
    from animesion_jax.images import find_images
    from animesion_jax.inference.embeddings import check_output, save_embeddings
    from animesion_jax.inference.recognizer import load

    path = check_output(flags.output)
    files = find_images(flags.images)
    recognizer = load(flags.bundle, min(flags.batch_size, len(files)))
    names, embeddings = [], [np.zeros((0, recognizer.bundle.num_features), np.float32)]
    bar = tqdm(recognizer.embed_files(files), total=len(files), unit="img", desc="embedding", disable=None, leave=False)
    for file, embedding in bar:
        if isinstance(embedding, InputError):
            log.warning("%s is left out: %s", file, embedding)
        else:
            names.append(str(file))
            embeddings.append(embedding[None])
    save_embeddings(path, names, np.concatenate(embeddings))
    print(f"wrote {path}: {len(names)} embeddings of {recognizer.bundle.num_features} numbers")
    return 1 if len(names) < len(files) else 0
