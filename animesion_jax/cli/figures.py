"""The command `figures`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import make_parser


def main(argv: Sequence[str]) -> int:
    """Writes the figures of a data set; prints its statistics as JSON."""
    parser = make_parser(
        "figures",
        "Writes samples.png, histogram.png and statistics.json of a built data set, and prints the statistics.",
        "--dataset=toyfaces --data_dir=runs/demo/data --output=figures/",
        compiles=False,
    )
    parser.add_argument("--dataset", required=True, help="TFDS name, such as dafre/released")
    parser.add_argument("--data_dir", required=True, help="folder of the data set; local or gs://")
    parser.add_argument("--output", required=True, help="folder to write to; local or gs://")
    args = parser.parse_args(argv)
    from animesion_jax.data.figures import make_figures

    print(json.dumps(make_figures(args.dataset, args.data_dir, args.output), indent=2))
    return 0
