"""The command `report`."""

from collections.abc import Sequence

from animesion_jax.cli.flags import make_parser


def main(argv: Sequence[str]) -> int:
    """Writes a report as Markdown, CSV, JSON and plots; prints the Markdown."""
    parser = make_parser(
        "report",
        "Compares training runs with the paper's tables: mean and standard deviation over seeds, and curves.",
        "runs/* --output=report",
        compiles=False,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="workdir, or a folder with workdirs in it")
    parser.add_argument("--output", default="report", help="folder to write to; local or gs://; default: report")
    parser.add_argument(
        "--weights",
        choices=("last", "best"),
        default="last",
        help="last, as in the paper's tables, or best by validation top-1; default: last",
    )
    args = parser.parse_args(argv)
    from animesion_jax.report import report

    print(report(args.runs, args.output, args.weights), end="")
    return 0
