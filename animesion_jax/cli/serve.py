"""The command `serve`."""

from collections.abc import Sequence

from animesion_jax.cli.flags import parser_of


def run(arguments: Sequence[str]) -> int:
    """Serves a web page until it is interrupted."""
    parser = parser_of(
        "serve",
        "Serves a web page where pictures are dropped and characters named, and a JSON endpoint, /api/predict.",
        "--bundle=demo.msgpack --port=7860 --examples runs/demo/faces",
    )
    parser.add_argument("--bundle", required=True, help="file written by export")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=7860, help="0 takes a free one; default: 7860")
    parser.add_argument("--max_file_mb", type=float, default=20.0, help="largest image file in 2^20 bytes; default: 20")
    parser.add_argument("--max_images", type=int, default=16, help="most images of one request; default: 16")
    parser.add_argument("--top_k", type=int, default=5, help="characters per image; default: 5")
    parser.add_argument(
        "--examples", nargs="+", default=[], metavar="IMAGE_OR_FOLDER", help="images to try on the page"
    )
    flags = parser.parse_args(arguments)
    from animesion_jax.images import find_images
    from animesion_jax.serve import serve

    serve(
        flags.bundle,
        flags.host,
        flags.port,
        max_file_mb=flags.max_file_mb,
        max_images=flags.max_images,
        top_k=flags.top_k,
        examples=find_images(flags.examples),
    )
    return 0
