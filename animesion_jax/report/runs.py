"""The runs of a report, read from the JSON files of their workdirs."""

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from animesion_jax.config import changes_result, check_values, flatten, from_tree, to_tree
from animesion_jax.errors import InputError, command
from animesion_jax.files import expand_home, read_json
from animesion_jax.workdir.names import CLASSES_FILE, CONFIG_FILE, ORIGIN_FILE, RESULTS_FILE
from animesion_jax.workdir.rows import read_rows

log = logging.getLogger(__name__)

ACCURACIES = ("top1_accuracy", "top5_accuracy")


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
      path: its workdir.
      config: values by dotted name, see `flat_config`.
      class_names: names by class id.
      rows: of metrics.jsonl.
      results: results.json, {"last": {...}, "best": {...}}; empty until there are test metrics.
      warning: about the weights that it started from, such as that they know the test images; "" for none.
    """

    path: str
    config: dict[str, Any]
    class_names: tuple[str, ...]
    rows: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    warning: str

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that changes the result, without the seed."""
        return {
            name: value for name, value in self.config.items() if name != "seed" and changes_result(name, self.config)
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

    @property
    def reached(self) -> str:
        """The epoch and step that a run without results reached, in words."""
        last = self.rows[-1] if self.rows else {"epoch": 0, "step": 0}
        untested = "" if self.config["test_split"] else ", no test split"
        return f"at epoch {last['epoch']:g} of {self.epochs}, step {last['step']}{untested}"


def find_runs(paths: Sequence[str]) -> list[epath.Path]:
    """Returns the workdirs among and below the given folders, each once.

    Skips files, broken links and folders without a run, which `runs/*` in a shell includes.

    Raises:
      InputError: a path does not exist, or there is no run.
    """
    found = {}
    for name in paths:
        path = epath.Path(expand_home(name))
        if not path.exists() and not os.path.islink(path):
            raise InputError(f"no folder {name}; allowed: workdirs of training runs, and folders of them")
        below = list(_workdirs(path)) if path.is_dir() else []
        if not below:
            log.info("skipped %s: not a workdir, and no workdir below it", name)
        found |= {str(each.resolve()): each for each in below}
    if not found:
        raise InputError(
            f"no training run ({CONFIG_FILE} and {CLASSES_FILE}) in {', '.join(paths)}; start one: "
            f"{command('', config='demo', workdir='runs/demo')}"
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
    """Returns the runs, and the errors of damaged ones by path; InputError if all are damaged."""
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
    tree = read_json(folder / CONFIG_FILE)
    try:
        config = flat_config(tree)
    except InputError as error:
        raise InputError(f"{folder / CONFIG_FILE}: {error}; restore it or leave {folder} out") from error
    class_names = tuple(read_json(folder / CLASSES_FILE, list))
    rows, results = read_rows(str(folder)), _read_results(folder)
    return Run(str(folder), config, class_names, rows, results, _read_warning(folder))


def flat_config(tree: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a config.json by dotted name; nulls stay None.

    They are those of the first stage with epochs. "stages" is the number of such stages; "stages[1].epochs" and the
    like are values of further stages that differ from the first.

    Raises:
      InputError: a field is missing, unknown or invalid.
    """
    config = from_tree(tree)
    check_values(config)
    tree = to_tree(config)
    stages = [flatten(each) for each in tree.pop("stages") if each["epochs"] != 0]
    base = flatten(tree)
    first, *others = (base | {name: value for name, value in each.items() if value is not None} for each in stages)
    flat = first | {"stages": len(stages)}
    for index, each in enumerate(others, start=1):
        flat |= {f"stages[{index}].{name}": value for name, value in each.items() if value != first[name]}
    return flat


def _read_warning(folder: epath.Path) -> str:
    path = folder / ORIGIN_FILE
    origin = read_json(path) if path.exists() else {}
    return origin.get("pretrained", {}).get("note", "")


def _read_results(folder: epath.Path) -> dict[str, dict[str, Any]]:
    path = folder / RESULTS_FILE
    results = read_json(path) if path.exists() else {}
    for weights, name in itertools.product(("last", "best") if results else (), ACCURACIES):
        metrics = results.get(weights)
        value = metrics.get(name) if isinstance(metrics, dict) else None
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"{path} has no {name} of the {weights} weights; restore it or leave {folder} out")
    return results
