"""The command `sweep`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import join_processes, make_parser, parse_with_config
from animesion_jax.errors import InputError
from animesion_jax.training.preemption import Preemption


def main(argv: Sequence[str]) -> int:
    """Trains the runs of a grid; prints their outcomes as JSON; exit status 1 if a run failed."""
    parser = make_parser(
        "sweep",
        "Trains a run for every combination of a grid, one after the other, each in its own folder of the workdir. "
        "config.base is the config of every run, config.grid the values of the fields that differ. A second start "
        "skips the runs that have ended and resumes the run that was interrupted.",
        "--config=sweep_size:shallownet --config.base.data_dir=data --workdir=runs/sizes",
    )
    args = parse_with_config(parser, argv)
    if "grid" not in args.config:
        raise InputError("the config has no grid; allowed: one with base and grid, such as sweep_size")
    with Preemption(many_processes=args.distributed) as preemption:
        join_processes(args)
        from animesion_jax import distributed
        from animesion_jax.training.sweep import sweep
        from animesion_jax.workdir.lock import check_path

        check_path(args.workdir)
        if args.config.base.folder:
            from animesion_jax.library.folder import build_folder

            build_folder(args.config.base)
        outcomes = sweep(args.config, args.workdir, accept_changes=args.accept_changes, preemption=preemption)
    distributed.print_once(json.dumps(outcomes, indent=2))
    return 1 if any(outcome["status"] == "failed" for outcome in outcomes) else 0
