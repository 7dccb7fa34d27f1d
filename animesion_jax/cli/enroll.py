"""The command `enroll`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import add_images, parser_of


def run(arguments: Sequence[str]) -> int:
    """Writes a bundle that knows another character; prints a JSON object."""
    parser = parser_of(
        "enroll",
        "Writes a copy of a bundle that knows another character, from a few images of it and without training; predict "
        "and serve name it like the others.",
        "--bundle=demo.msgpack --name='Hatsune Miku' --output=demo_miku.msgpack miku/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="calibrated file, as export writes it where the data set is")
    parser.add_argument("--name", required=True, help="of the character; one enrolled before is replaced")
    parser.add_argument("--output", required=True, help="file to write; local or gs://; may be the bundle itself")
    flags = parser.parse_args(arguments)
    from animesion_jax.images import find_images
    from animesion_jax.inference.enroll import enroll

    path, enrolled = enroll(flags.bundle, flags.name, find_images(flags.images), flags.output)
    print(json.dumps({"bundle": str(path), **enrolled}, ensure_ascii=False))
    return 0
