"""The command `explain`."""

from collections.abc import Sequence

from animesion_jax.cli.flags import add_detector_flags, add_images, check_detector_flags, make_parser, use_utf8_output


def main(argv: Sequence[str]) -> int:
    """Writes saliency maps of images; exit status 1 if a file was unreadable or an overlay's name too long."""
    parser = make_parser(
        "explain",
        "Writes IMAGE.explained.png: the image with a map of the regions that decided the prediction. The map is "
        "attention rollout for a transformer, Grad-CAM for a ResNet or ShallowNet. Prints a JSON line for each image."
        "\n\nWith --detector, explains each head on whole pictures: PICTURE.1.explained.png and so on.",
        "--bundle=demo.msgpack --output=explained/ face.jpg folder/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="file written by export, or hf://OWNER/REPO")
    parser.add_argument("--output", help="folder to write to; default: beside each image")
    parser.add_argument("--class_name", help="character that Grad-CAM explains; default: the most probable one")
    add_detector_flags(parser)
    args = parser.parse_args(argv)
    check_detector_flags(args)
    from animesion_jax.bundle import load_bundle
    from animesion_jax.images import find_images
    from animesion_jax.inference.explain import Explainer
    from animesion_jax.inference.heads import head_finder
    from animesion_jax.inference.overlays import explain_files
    from animesion_jax.inference.writers import json_line

    bundle = load_bundle(args.bundle)
    finder = head_finder(bundle, args.detector, args.min_confidence) if args.detector else None
    failed = False
    use_utf8_output()
    for row in explain_files(Explainer(bundle), find_images(args.images), args.class_name, args.output, finder):
        failed = failed or "error" in row
        print(json_line(row), flush=True)
    return 1 if failed else 0
