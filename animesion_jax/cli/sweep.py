"""The command `sweep`."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import asks_for_help, load_config
from animesion_jax.errors import InputError
from animesion_jax.training.preemption import Preemption


def run(arguments: Sequence[str]) -> int:
    """Trains the runs of a grid; prints their outcomes as JSON; exit status 1 when a run failed."""
    if asks_for_help(arguments, "sweep"):
        return 0
    given = load_config(arguments, "sweep")
    if "grid" not in given.config:
        raise InputError("the config has no grid; allowed: one with base and grid, such as configs/sweep_size.py")
    with Preemption(many_processes=given.hosts.distributed) as preemption:
        given.hosts.join()
        from animesion_jax import distributed
        from animesion_jax.cli.folder import build_folder
        from animesion_jax.training.sweep import sweep

        build_folder(given.config.base)
        outcomes = sweep(given.config, given.workdir, accept_changes=given.accept_changes, preemption=preemption)
    distributed.print_once(json.dumps(outcomes, indent=2))
    return 1 if any(outcome["status"] == "failed" for outcome in outcomes) else 0
