"""The command `train`, the default command."""

import argparse
import json
from collections.abc import Sequence

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import join_processes, make_parser, parse_with_config
from animesion_jax.errors import InputError, command
from animesion_jax.training.preemption import Preemption


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed arguments of the command; `config` has its overrides."""
    parser = make_parser(
        "train",
        "Trains a model, or resumes the run in the workdir.\n\n"
        f"Other commands, each with its own --help: {', '.join(COMMANDS[1:])}.",
        "--config=configs/demo.py --config.data_dir=data --workdir=runs/demo",
    )
    return parse_with_config(parser, argv)


def main(argv: Sequence[str]) -> int:
    """Trains; prints the test metrics as JSON."""
    args = parse_args(argv)
    if "grid" in args.config:
        raise InputError(f"the config has a grid of runs; train them with: {command('sweep')} ...")
    with Preemption(many_processes=args.distributed) as preemption:
        join_processes(args)
        from animesion_jax import distributed
        from animesion_jax.training.train import train
        from animesion_jax.workdir.lock import check_path

        check_path(args.workdir)
        if args.config.folder:
            # Other data sets need no builder.
            from animesion_jax.cli.folder import build_folder

            build_folder(args.config, args.workdir, accept_changes=args.accept_changes)
        results = train(args.config, args.workdir, accept_changes=args.accept_changes, preemption=preemption)
    distributed.print_once(json.dumps(results))
    return 0
