"""The runs of a report, read from the JSON files of their workdirs."""

import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from animesion_jax.config import changes_result, flatten, from_tree, stage_configs, to_tree
from animesion_jax.errors import InputError
from animesion_jax.files import read_json
from animesion_jax.models import Family, family_of
from animesion_jax.workdir.metrics_log import read_rows
from animesion_jax.workdir.names import CLASSES_FILE, CONFIG_FILE, RESULTS_FILE, ROWS_FILE

log = logging.getLogger(__name__)

ACCURACIES = ("top1_accuracy", "top5_accuracy")


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
      path: its workdir.
      config: values by dotted name without nulls, see `flat_config`.
      family: the record of its model's family.
      class_names: names by class id.
      rows: of metrics.jsonl.
      results: results.json, {"last": {...}, "best": {...}}; empty until there are test metrics.
      missing: why there are no results; empty if there are.
    """

    path: str
    config: dict[str, Any]
    family: Family
    class_names: tuple[str, ...]
    rows: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    missing: str

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that changes the result, without the seed."""
        return {
            name: value
            for name, value in self.config.items()
            if name != "seed" and changes_result(name, self.config, self.family)
        }

    @property
    def data(self) -> tuple[str, tuple[str, ...]]:
        """The data set (name, with its config, and class names)."""
        return self.config["dataset"], self.class_names

    @property
    def epochs(self) -> int:
        """The number of epochs over all stages."""
        first = self.config["epochs"]
        return first + sum(self.config.get(f"stages[{i}].epochs", first) for i in range(1, self.config["stages"]))

    @property
    def validation(self) -> list[dict[str, Any]]:
        """The rows of the evaluations during training."""
        return [row for row in self.rows if row["split"] == "validation"]


def find_runs(paths: Sequence[str]) -> list[epath.Path]:
    """Returns the workdirs among and below the given folders, each once.

    Skips files, broken links and folders without a run, which `runs/*` in a shell includes.

    Raises:
      InputError: a path does not exist, or there is no run.
    """
    found = {}
    for name in paths:
        path = epath.Path(name).expanduser()
        if not path.exists() and not os.path.islink(path):
            raise InputError(f"no folder {name}; allowed: workdirs of training runs, and folders of them")
        below = list(_workdirs(path)) if path.is_dir() else []
        if not below:
            log.info("skipped %s: it is no workdir and holds none", name)
        found |= {str(each.resolve()): each for each in below}
    if not found:
        raise InputError(
            f"no training run ({CONFIG_FILE} and {CLASSES_FILE}) in {', '.join(paths)}; start one: "
            "python -m animesion_jax.main --config=configs/demo.py --workdir=runs/demo"
        )
    return list(found.values())


def _workdirs(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields the folder if it is a workdir, else the workdirs below it, sorted."""
    if all((folder / name).exists() for name in (CONFIG_FILE, CLASSES_FILE)):
        yield folder
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            yield from _workdirs(child)


def read_runs(folders: Iterable[epath.Path]) -> tuple[list[Run], dict[str, str]]:
    """Returns the runs, and by path the faults of damaged ones; InputError if all are damaged."""
    runs, damaged = [], {}
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except InputError as error:
            log.warning("left out: %s", error)
            damaged[str(folder)] = str(error)
    if damaged and not runs:
        raise InputError(next(iter(damaged.values())))
    return runs, damaged


def read_run(folder: epath.Path) -> Run:
    """Returns the run in a workdir; InputError if its files are damaged."""
    config, family = _read_config(folder)
    class_names = tuple(read_json(folder / CLASSES_FILE, list))
    rows = read_rows(str(folder))
    if not all(isinstance(row, dict) and {"step", "epoch", "split"} <= row.keys() for row in rows):
        raise InputError(f"{folder / ROWS_FILE} is damaged (a row lacks step, epoch or split); leave {folder} out")
    results, missing = _read_results(folder)
    run = Run(str(folder), config, family, class_names, rows, results, missing)
    return run if results or missing else dataclasses.replace(run, missing=_progress(run))


def _read_config(folder: epath.Path) -> tuple[dict[str, Any], Family]:
    tree = read_json(folder / CONFIG_FILE, dict)
    try:
        family = family_of(tree.get("model"))
        return flat_config(tree, family), family
    except InputError as error:
        raise InputError(f"{folder / CONFIG_FILE}: {error}; restore it or leave {folder} out") from error


def flat_config(tree: dict[str, Any], family: Family) -> dict[str, Any]:
    """Returns the values of a config.json by dotted name, with nulls worked out.

    They are those of the first stage. "stages" is the number of stages; "stages[1].epochs" and the like are values of
    further stages that differ from the first.

    Raises:
      InputError: a field is missing, unknown or of another type.
    """
    first, *others = (flatten(to_tree(each)) for each in stage_configs(from_tree(tree), family))
    flat = first | {"stages": 1 + len(others)}
    for index, each in enumerate(others, start=1):
        flat |= {f"stages[{index}].{name}": value for name, value in each.items() if value != first[name]}
    return flat


def _read_results(folder: epath.Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Returns results.json, and why it is empty; both are empty for a run that has not ended."""
    path = folder / RESULTS_FILE
    if not path.exists():
        return {}, ""
    results = read_json(path, dict)
    for weights in ("last", "best") if results else ():
        metrics = results.get(weights)
        for name in ACCURACIES:
            if not isinstance(metrics, dict) or not isinstance(metrics.get(name), int | float):
                raise InputError(f"{path} has no {name} of the {weights} weights; restore it or leave {folder} out")
    return results, "" if results else "it has no test split"


def _progress(run: Run) -> str:
    if not run.rows:
        return f"nothing logged of {run.epochs} epochs"
    return f"at epoch {run.rows[-1]['epoch']:g} of {run.epochs}, step {run.rows[-1]['step']}"
