"""The command `enroll`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import add_images, make_parser


def main(argv: Sequence[str]) -> int:
    """Adds a character to a bundle; prints the result as JSON."""
    parser = make_parser(
        "enroll",
        "Writes a copy of a bundle with one more character, from a few images and without training. predict and serve "
        "name it like the others.",
        "--bundle=demo.msgpack --name='Hatsune Miku' --output=demo_miku.msgpack miku/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export, calibrated")
    parser.add_argument("--name", required=True, help="the character; an enrolled one of that name is replaced")
    parser.add_argument("--output", required=True, help="file to write, may be the bundle itself; local or gs://")
    args = parser.parse_args(argv)
    from animesion_jax.images import find_images
    from animesion_jax.inference.enroll import enroll

    path, enrolled = enroll(args.bundle, args.name, find_images(args.images), args.output)
    print(json.dumps({"bundle": str(path), **enrolled}, ensure_ascii=False))
    return 0
