"""The command `figures`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import parser_of


def run(arguments: Sequence[str]) -> int:
    """Writes a data set's figures and prints its statistics as JSON."""
    parser = parser_of(
        "figures",
        "Writes samples.png, histogram.png and statistics.json of a built data set, and prints the statistics.",
        "--dataset=toyfaces --data_dir=runs/demo/data --output=figures/",
    )
    parser.add_argument("--dataset", required=True, help="TFDS name, such as dafre/released")
    parser.add_argument("--data_dir", required=True, help="where the data set is built; local or gs://")
    parser.add_argument("--output", required=True, help="folder to write to; local or gs://")
    flags = parser.parse_args(arguments)
    from animesion_jax.data.figures import make_figures

    print(json.dumps(make_figures(flags.dataset, flags.data_dir, flags.output), indent=2))
    return 0
