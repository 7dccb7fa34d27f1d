"""The command `export`."""

from collections.abc import Sequence

from animesion_jax.command_line import add_run_flags, parser_of


def run(arguments: Sequence[str]) -> int:
    """Writes a bundle."""
    parser = parser_of(
        "export",
        "Writes a run's model, preprocessing and class names as one msgpack file.",
        "--workdir=runs/demo --output=demo.msgpack",
    )
    add_run_flags(parser)
    parser.add_argument("--output", required=True, help="file to write, usually *.msgpack; local or gs://")
    flags = parser.parse_args(arguments)
    from animesion_jax.export import export

    path = export(flags.workdir, flags.output, flags.weights)
    print(f"wrote {path} ({path.stat().length / 1e6:.1f} MB)")
    return 0
