"""The command `serve`."""

from collections.abc import Sequence

from animesion_jax.cli.flags import add_detector_flags, check_detector_flags, make_parser


def main(argv: Sequence[str]) -> int:
    """Serves a web page until Ctrl+C."""
    parser = make_parser(
        "serve",
        "Serves a web page that names the characters on dropped images, and a JSON endpoint, /api/predict.\n\n"
        "With --detector, takes whole pictures: finds the heads and names each.",
        "--bundle=demo.msgpack --port=7860 --examples runs/demo/faces\n"
        "  animesion serve --bundle=demo.msgpack --detector=auto",
    )
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=7860, help="0 picks a free port; default: 7860")
    parser.add_argument(
        "--max_file_mb", type=float, default=20.0, help="maximum size of an image file, MiB; default: 20"
    )
    parser.add_argument("--max_images", type=int, default=16, help="maximum images per request; default: 16")
    parser.add_argument("--top_k", type=int, default=5, help="characters per image or head; default: 5")
    parser.add_argument(
        "--examples", nargs="+", default=[], metavar="IMAGE_OR_FOLDER", help="sample images on the page"
    )
    parser.add_argument(
        "--root_path", default="", metavar="/PATH", help="path of the page behind a proxy, such as /anime"
    )
    add_detector_flags(parser)
    args = parser.parse_args(argv)
    check_detector_flags(args)
    from animesion_jax.images import find_images
    from animesion_jax.serve import serve

    serve(
        args.bundle,
        args.host,
        args.port,
        max_file_mb=args.max_file_mb,
        max_images=args.max_images,
        top_k=args.top_k,
        examples=find_images(args.examples),
        root_path=args.root_path,
        detector=args.detector,
        min_confidence=args.min_confidence,
    )
    return 0
