"""The command `evaluate`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import add_host_flags, add_run_flags, hosts_of, parser_of
from animesion_jax.errors import InputError


def run(arguments: Sequence[str]) -> int:
    """Prints one JSON object with a run's metrics on a split."""
    parser = parser_of(
        "evaluate", "Evaluates a run on a whole split.", "--workdir=runs/demo/run --split=test --weights=last"
    )
    add_run_flags(parser)
    parser.add_argument("--split", default="test", help="split of the data set, or held_out; default: test")
    parser.add_argument("--data_dir", help="where the data set is built now; default: where it was in training")
    parser.add_argument(
        "--per_class", action="store_true", help="also write per_class.csv and print means over classes"
    )
    parser.add_argument(
        "--output", help="file that --per_class writes; default: per_class.csv in the workdir, or SPLIT_per_class.csv"
    )
    add_host_flags(parser)
    flags = parser.parse_args(arguments)
    if flags.output and not flags.per_class:
        raise InputError(f"--output={flags.output} is for --per_class; give both")
    hosts_of(flags).join()
    from animesion_jax import distributed
    from animesion_jax.training.evaluate import evaluate

    result = evaluate(
        flags.workdir, flags.split, flags.weights, flags.data_dir, per_class=flags.per_class, output=flags.output
    )
    distributed.print_once(json.dumps(result))
    return 0
