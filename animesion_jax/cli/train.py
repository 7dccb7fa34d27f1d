"""The command `train`, which is run where none is named."""

import json
from collections.abc import Sequence

from animesion_jax.cli.flags import asks_for_help, load_config
from animesion_jax.errors import InputError
from animesion_jax.training.preemption import Preemption


def run(arguments: Sequence[str]) -> int:
    """Trains; prints the test metrics as JSON."""
    if asks_for_help(arguments, "train"):
        return 0
    given = load_config(arguments)
    if "grid" in given.config:
        raise InputError("the config has a grid of runs; train them with: python -m animesion_jax.main sweep ...")
    with Preemption(many_processes=given.hosts.distributed) as preemption:
        given.hosts.join()
        from animesion_jax import distributed
        from animesion_jax.cli.folder import build_folder
        from animesion_jax.training.train import train

        build_folder(given.config, given.workdir, given.accept_changes)
        results = train(given.config, given.workdir, accept_changes=given.accept_changes, preemption=preemption)
    distributed.print_once(json.dumps(results))
    return 0
