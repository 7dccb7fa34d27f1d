"""sweep(config, workdir): a run for every combination of a grid, each as resumable as a single run."""

import copy
import itertools
import logging
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
from etils import epath

from animesion_jax import distributed
from animesion_jax.config import FIELDS, check, stage_configs
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.splits import select_examples
from animesion_jax.errors import InputError, first_line
from animesion_jax.files import expand_home, write_json
from animesion_jax.models import family_of
from animesion_jax.training import steps
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.train import train
from animesion_jax.workdir import run
from animesion_jax.workdir.lock import locked_workdir
from animesion_jax.workdir.names import SWEEP_FILE

# Factor of the learning rate, by batch size / base batch size.
SCALINGS: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": lambda ratio: ratio**0.5,
}
GRID_FIELDS = tuple(name for name in FIELDS if "." not in name and name != "stages")

log = logging.getLogger(__name__)


def expand(config: ml_collections.ConfigDict) -> dict[str, ml_collections.ConfigDict]:
    """Returns the config of every run of a sweep by the run's name, such as "batch_size_256-image_size_64-seed_0".

    Args:
      config: of a sweep.

        - base: the config of a run.
        - grid: values by field of the base.
        - learning_rate_scaling: how the learning rate follows the batch size, a key of `SCALINGS`.
        - scale_crop_margin: whether crop_margin grows in proportion to image_size.

    Raises:
      InputError: a field or scaling is unknown, or a value is invalid.
    """
    base, grid = config.base, config.grid.to_dict()
    check(base, family_of(base.model))
    _check_grid(config)
    configs = {}
    for values in itertools.product(*grid.values()):
        chosen = copy.deepcopy(base)
        for field, value in zip(grid, values, strict=True):
            try:
                chosen[field] = value
            except TypeError as error:
                raise InputError(f"config.grid.{field} has {value!r}; allowed: values like {base[field]!r}") from error
        check(chosen, family_of(chosen.model))
        if config.learning_rate_scaling != "none":
            chosen.learning_rate *= SCALINGS[config.learning_rate_scaling](chosen.batch_size / base.batch_size)
        if config.scale_crop_margin:
            chosen.crop_margin = round(base.crop_margin * chosen.image_size / base.image_size)
        configs["-".join(f"{field}_{value}" for field, value in zip(grid, values, strict=True))] = chosen
    return configs


def _check_grid(config: ml_collections.ConfigDict) -> None:
    """Raises InputError unless the grid has known fields with values, and no other rule sets the same field."""
    scaling, grid = config.learning_rate_scaling, config.grid.to_dict()
    if scaling not in SCALINGS:
        raise InputError(f"unknown config.learning_rate_scaling '{scaling}'; allowed: {', '.join(SCALINGS)}")
    for field, values in grid.items():
        if field not in GRID_FIELDS:
            raise InputError(f"unknown field '{field}' in config.grid; allowed: {', '.join(GRID_FIELDS)}")
        if not isinstance(values, list | tuple) or not values:
            raise InputError(f"config.grid.{field} is {values!r}; allowed: one value or more, such as (32, 64)")
    if scaling != "none" and "learning_rate" in grid:
        raise InputError(f"config.learning_rate_scaling is {scaling} and config.grid has learning_rate; give one")
    if scaling != "none" and config.base.learning_rate is None:
        raise InputError(
            f"config.learning_rate_scaling is {scaling}, but the null config.base.learning_rate follows the batch size "
            "by its own rule; set one of them: --config.learning_rate_scaling=none, or --config.base.learning_rate=0.01"
        )
    if config.scale_crop_margin and "crop_margin" in grid:
        raise InputError("config.grid has crop_margin; needed: --config.scale_crop_margin=False")
    if "model" in grid and config.base.pretrained:
        raise InputError(
            f"config.grid has model, but the weights {config.base.pretrained} of config.base.pretrained fit one model; "
            "needed: a sweep for each model, or --config.base.pretrained="
        )


def sweep(
    config: ml_collections.ConfigDict,
    workdir: str,
    *,
    accept_changes: bool = False,
    preemption: Preemption | None = None,
) -> list[dict[str, Any]]:
    """Trains the unfinished runs of a grid, one after the other, on the devices of all processes.

    An interrupted sweep resumes at the last checkpoint of the run that was interrupted. If a run fails, the others are
    still trained.

    Args:
      config: as in `expand`; see `animesion_jax.configs.sweep_size`.
      workdir: folder for sweep.json and for a workdir per run, named as in `expand`; local or gs://.
      accept_changes, preemption: as in `train`.

    Returns:
      {"run", "status", "results" or "error"} of each run. The status is "trained", "had ended" or "failed"; results are
      those of `train`. sweep.json has the status and error of each run besides the settings of the sweep.

    Raises:
      InputError: the data set, split, model or batch size of a run is invalid, or another sweep runs in the workdir;
        raised before anything is trained.
    """
    configs = expand(config)
    for name, each in configs.items():
        try:
            _check_run(each)
        except InputError as error:
            raise InputError(f"run {name} of the sweep: {error}") from error
    with locked_workdir(workdir):
        return _train_all(config, configs, workdir, accept_changes, preemption)


def _train_all(
    config: ml_collections.ConfigDict,
    configs: dict[str, ml_collections.ConfigDict],
    workdir: str,
    accept_changes: bool,
    preemption: Preemption | None,
) -> list[dict[str, Any]]:
    folder = epath.Path(expand_home(workdir))
    outcomes: dict[str, dict[str, Any]] = {name: {"status": "waiting"} for name in configs}
    _write_record(config, folder, outcomes)
    for number, (name, each) in enumerate(configs.items(), start=1):
        log.info("run %d of %d: %s", number, len(configs), name)
        if preemption:
            preemption.check()
        outcomes[name] = _run_one(each, str(folder / name), accept_changes, preemption)
        _write_record(config, folder, outcomes)
        # Every run has its own programs, which would fill the memory in a long sweep.
        jax.clear_caches()
    return [{"run": name, **outcome} for name, outcome in outcomes.items()]


def _run_one(
    config: ml_collections.ConfigDict, workdir: str, accept_changes: bool, preemption: Preemption | None
) -> dict[str, Any]:
    """Returns the outcome of a run, which is trained unless it has ended."""
    try:
        results = run.results_of(workdir, config, accept_changes=accept_changes)
        if results is not None:
            return {"status": "had ended", "results": results}
        results = train(config, workdir, accept_changes=accept_changes, preemption=preemption)
        return {"status": "trained", "results": results}
    except (InputError, jax.errors.JaxRuntimeError) as error:
        # A JaxRuntimeError mostly means that the devices have too little memory.
        if jax.process_count() > 1:
            # The other processes may be waiting in this run, so that the next one cannot begin.
            raise
        log.warning("run %s failed: %s", workdir, first_line(error))
        return {"status": "failed", "error": first_line(error)}


def _write_record(config: ml_collections.ConfigDict, folder: epath.Path, outcomes: dict[str, dict[str, Any]]) -> None:
    """Writes sweep.json: the settings of the sweep, and the status of each run."""
    if not distributed.is_first():
        return
    runs = {
        name: {key: value for key, value in outcome.items() if key != "results"} for name, outcome in outcomes.items()
    }
    record = {
        "grid": config.grid.to_dict(),
        "learning_rate_scaling": config.learning_rate_scaling,
        "scale_crop_margin": config.scale_crop_margin,
        "runs": runs,
    }
    write_json(folder / SWEEP_FILE, record)


def _check_run(config: ml_collections.ConfigDict) -> None:
    """Raises InputError if the data set, its splits, the model or the devices do not fit the config."""
    dataset = load_dataset(config.dataset, config.data_dir)
    for split in filter(None, (config.train_split, config.validation_split, config.test_split)):
        select_examples(config, dataset, split)
    run.build_model(config, len(dataset.class_names))
    for stage in stage_configs(config, family_of(config.model)):
        steps.check_train_batch(stage, jax.device_count())
    steps.check_batch_size("eval_batch_size", config.eval_batch_size, jax.device_count())
