"""sweep(config, workdir): a run for every combination of a grid, each as resumable as a single run."""

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
from etils import epath

from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.splits import select_examples
from animesion_jax.errors import InputError, first_line
from animesion_jax.training import steps
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.train import train
from animesion_jax.workdir import run

# What a batch of `ratio` times the base's does to the learning rate.
SCALINGS: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": lambda ratio: ratio**0.5,
}

log = logging.getLogger(__name__)


def expand(config: ml_collections.ConfigDict) -> dict[str, ml_collections.ConfigDict]:
    """Returns the config of every run of a sweep by the run's name, such as "batch_size_256-image_size_64-seed_0".

    Args:
      config: {"base": the config of a run, "grid": {field of the base: values}, "learning_rate_scaling": a key of
        `SCALINGS`, by the batch size against the base's, "scale_crop_margin": whether crop_margin grows with the image
        size from the base's}.

    Raises:
      InputError: unknown field or scaling, no values, or values that cannot be trained with.
    """
    if config.learning_rate_scaling not in SCALINGS:
        raise InputError(
            f"unknown config.learning_rate_scaling '{config.learning_rate_scaling}'; allowed: {', '.join(SCALINGS)}"
        )
    base, grid = config.base, config.grid.to_dict()
    run.check_config(base)
    derived = {
        "crop_margin": config.scale_crop_margin and "config.scale_crop_margin=False",
        "learning_rate": config.learning_rate_scaling != "none" and "config.learning_rate_scaling=none",
        # Mean, dropout and initialisation belong to the model, and only its own config file sets them.
        "model": "a sweep for each model, in a workdir of its own",
    }
    for field, values in grid.items():
        if field not in base or isinstance(base[field], ml_collections.ConfigDict):
            raise InputError(
                f"unknown field '{field}' in config.grid; allowed: those of configs/common.py that have no fields "
                "below them"
            )
        if derived.get(field):
            raise InputError(f"config.grid.{field} would not decide alone; needed: {derived[field]}")
        if not isinstance(values, list | tuple) or not values:
            raise InputError(f"config.grid.{field} is {values!r}; allowed: one value or more, such as (32, 64)")
    configs = {}
    for values in itertools.product(*grid.values()):
        chosen = base.copy_and_resolve_references()
        for field, value in zip(grid, values, strict=True):
            try:
                chosen[field] = value
            except TypeError as error:
                raise InputError(f"config.grid.{field} has {value!r}; allowed: values like {base[field]!r}") from error
        run.check_config(chosen)
        chosen.learning_rate *= SCALINGS[config.learning_rate_scaling](chosen.batch_size / base.batch_size)
        if config.scale_crop_margin:
            chosen.crop_margin = round(base.crop_margin * chosen.image_size / base.image_size)
        configs["-".join(f"{field}_{value}" for field, value in zip(grid, values, strict=True))] = chosen
    return configs


def sweep(
    config: ml_collections.ConfigDict,
    workdir: str,
    devices: Sequence[jax.Device] | None = None,
    *,
    accept_changes: bool = False,
    preemption: Preemption | None = None,
) -> list[dict[str, Any]]:
    """Trains every run of a grid that has not ended yet.

    A sweep that was interrupted goes on with the run, and at the checkpoint, where it stopped. A run that cannot be
    trained does not keep the others from it.

    Args:
      config: see `expand`, and configs/sweep_size.py.
      workdir: folder for a workdir per run, named as in `expand`; local or gs://.
      devices: devices to train on; None takes those of all processes.
      accept_changes, preemption: as in `train`.

    Returns:
      For each run {"run", "status", "results" or "error"}; status is "trained", "had ended" or "failed", results are
      those of `train`.

    Raises:
      InputError: before anything is trained, a data set, split or model that some run cannot have, or a batch that
        does not divide among the devices.
    """
    configs = expand(config)
    num_devices = len(devices or jax.devices())
    for name, each in configs.items():
        try:
            _check(each, num_devices)
        except InputError as error:
            raise InputError(f"run {name} of the sweep: {error}") from error
    options = {"accept_changes": accept_changes, "preemption": preemption}
    outcomes = []
    for number, (name, each) in enumerate(configs.items(), start=1):
        folder = str(epath.Path(workdir).expanduser() / name)
        log.info("run %d of %d: %s", number, len(configs), name)
        if preemption:
            preemption.check()
        try:
            results, status = run.results_of(folder, each, accept_changes=accept_changes), "had ended"
            if results is None:
                results, status = train(each, folder, devices, **options), "trained"
            outcomes.append({"run": name, "status": status, "results": results})
        except (InputError, jax.errors.JaxRuntimeError) as error:
            if jax.process_count() > 1:
                # The others may be waiting in this run for what never comes.
                raise
            # What the devices say is above all that their memory does not suffice.
            log.warning("run %s failed: %s", name, first_line(error))
            outcomes.append({"run": name, "status": "failed", "error": first_line(error)})
        # Every run has programs of its own; kept, they would fill the memory of a long sweep.
        jax.clear_caches()
    return outcomes


def _check(config: ml_collections.ConfigDict, num_devices: int) -> None:
    dataset = load_dataset(config.dataset, config.data_dir)
    for split in filter(None, (config.train_split, config.validation_split, config.test_split)):
        select_examples(config, dataset, split)
    run.build_model(config, len(dataset.class_names))
    steps.check_train_batch(config, num_devices)
    steps.check_batch_size("eval_batch_size", config.eval_batch_size, num_devices)
