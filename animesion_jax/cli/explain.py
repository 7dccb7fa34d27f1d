"""The command `explain`."""

import json
import sys
from collections.abc import Sequence

from animesion_jax.cli.flags import add_images, parser_of


def run(arguments: Sequence[str]) -> int:
    """Writes pictures of what the model looked at; exit status 1 when a file was unreadable."""
    parser = parser_of(
        "explain",
        "Writes IMAGE.explained.png: the image under a map of what the model went by, attention rollout of a "
        "transformer, Grad-CAM of a ResNet or ShallowNet. Prints a JSON line for each.",
        "--bundle=demo.msgpack --output=explained/ face.jpg folder/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--output", help="folder to write to; default: beside each image")
    parser.add_argument("--class_name", help="character that Grad-CAM is for; default: the likeliest of each image")
    flags = parser.parse_args(arguments)
    from animesion_jax.bundle import load_bundle
    from animesion_jax.images import find_images
    from animesion_jax.inference.explain import Explainer, explain_files

    explainer = Explainer(load_bundle(flags.bundle))
    failed = False
    sys.stdout.reconfigure(errors="backslashreplace")
    for row in explain_files(explainer, find_images(flags.images), flags.class_name, flags.output):
        failed = failed or "error" in row
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return 1 if failed else 0
