"""The command `train`, the default command."""

import argparse
import json
from collections.abc import Sequence

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import join_processes, make_parser, parse_with_config
from animesion_jax.training.preemption import Preemption


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed arguments of the command; `config` has its overrides."""
    parser = make_parser(
        "train",
        "Trains a model, or resumes the run in the workdir.\n\n"
        f"Other commands, each with its own --help: {', '.join(COMMANDS[1:])}.",
        "--config=demo --config.data_dir=data --workdir=runs/demo",
    )
    return parse_with_config(parser, argv)


def main(argv: Sequence[str]) -> int:
    """Trains; prints the test metrics as JSON."""
    args = parse_args(argv)
    with Preemption(many_processes=args.distributed) as preemption:
        join_processes(args)
        from animesion_jax import distributed
        from animesion_jax.library import train

        results = train(args.config, args.workdir, accept_changes=args.accept_changes, preemption=preemption)
    distributed.print_once(json.dumps(results))
    return 0
