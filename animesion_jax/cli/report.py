"""The command `report`."""

from collections.abc import Sequence

from animesion_jax.cli.flags import parser_of


def run(arguments: Sequence[str]) -> int:
    """Prints the Markdown of a report and writes it with its CSV, JSON and pictures."""
    parser = parser_of(
        "report",
        "Sets training runs beside the paper's tables: mean and standard deviation over seeds, and curves.",
        "runs/* --output=report",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="workdir, or a folder with workdirs below it")
    parser.add_argument("--output", default="report", help="folder to write into; local or gs://; default: report")
    parser.add_argument(
        "--weights",
        choices=("last", "best"),
        default="last",
        help="last (what the paper's tables report), or best by validation top-1; default: last",
    )
    flags = parser.parse_args(arguments)
    from animesion_jax.report import report

    print(report(flags.runs, flags.output, flags.weights), end="")
    return 0
