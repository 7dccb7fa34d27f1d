"""The command `enroll`."""

from collections.abc import Sequence

from animesion_jax.cli.flags import add_detector_flags, add_images, check_detector_flags, make_parser, use_utf8_output


def main(argv: Sequence[str]) -> int:
    """Adds a character to a bundle; prints the result as JSON."""
    parser = make_parser(
        "enroll",
        "Writes a copy of a bundle with one more character, from a few images and without training. predict and serve "
        "name it like the others. With --detector, the images are whole pictures with one head each.",
        "--bundle=demo.msgpack --name='Hatsune Miku' --output=demo_miku.msgpack miku/",
    )
    add_images(parser)
    parser.add_argument("--bundle", required=True, help="calibrated file written by export, or hf://OWNER/REPO")
    parser.add_argument("--name", required=True, help="the character; an enrolled one of that name is replaced")
    parser.add_argument("--output", required=True, help="file to write, may be the bundle itself; local or gs://")
    add_detector_flags(parser)
    args = parser.parse_args(argv)
    check_detector_flags(args)
    from animesion_jax.bundle import updating
    from animesion_jax.images import find_images
    from animesion_jax.inference.enroll import enroll
    from animesion_jax.inference.writers import json_line

    files = find_images(args.images)
    with updating(args.bundle, args.output):
        path, enrolled = enroll(args.bundle, args.name, files, args.output, args.detector, args.min_confidence)
    use_utf8_output()
    print(json_line({"bundle": str(path), **enrolled}))
    return 0
