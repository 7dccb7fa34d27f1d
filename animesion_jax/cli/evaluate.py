"""The command `evaluate`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import add_process_flags, add_run_flags, join_processes, make_parser
from animesion_jax.errors import InputError


def main(argv: Sequence[str]) -> int:
    """Evaluates a run on a split; prints the metrics as JSON."""
    parser = make_parser(
        "evaluate",
        "Evaluates a run on a whole split.",
        "--workdir=runs/demo/run --split=test --weights=last",
    )
    add_run_flags(parser)
    parser.add_argument("--split", default="test", help="split of the data set, or held_out; default: test")
    parser.add_argument("--data_dir", help="folder of the data set; default: the folder used in training")
    parser.add_argument(
        "--per_class", action="store_true", help="write the metrics of every class to a CSV file, and print their means"
    )
    parser.add_argument(
        "--output",
        help="file for --per_class; default: per_class.csv or, for other splits than test, SPLIT_per_class.csv",
    )
    add_process_flags(parser)
    args = parser.parse_args(argv)
    if args.output and not args.per_class:
        raise InputError(f"--output={args.output} is for --per_class; give both")
    join_processes(args)
    from animesion_jax import distributed
    from animesion_jax.training.evaluate import evaluate

    result = evaluate(
        args.workdir, args.split, args.weights, args.data_dir, per_class=args.per_class, output=args.output
    )
    distributed.print_once(json.dumps(result))
    return 0
