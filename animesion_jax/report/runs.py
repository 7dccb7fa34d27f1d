"""The runs of a report, read from their JSON files alone."""

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from animesion_jax.errors import InputError
from animesion_jax.files import read_json
from animesion_jax.workdir.metrics_log import read_rows
from animesion_jax.workdir.names import ADDED, CLASSES_FILE, CONFIG_FILE, RESULTS_FILE, ROWS_FILE

log = logging.getLogger(__name__)

# Fields without which a config tells too little; any other may be absent.
REQUIRED = ("dataset", "model", "image_size", "batch_size", "epochs", "learning_rate", "seed")
ACCURACIES = ("top1_accuracy", "top5_accuracy")


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
      path: its workdir.
      config: values by dotted name ("vit.pool"), lists as tuples.
      class_names: by class id.
      rows: of metrics.jsonl.
      results: results.json, {"last": {...}, "best": {...}}; empty while there are no test metrics.
      missing: why there are no results; empty where there are.
    """

    path: str
    config: dict[str, Any]
    class_names: tuple[str, ...]
    rows: list[dict[str, Any]]
    results: dict[str, dict[str, Any]]
    missing: str

    @property
    def validation(self) -> list[dict[str, Any]]:
        """The rows of its evaluations in training."""
        return [row for row in self.rows if row["split"] == "validation"]


def find_runs(paths: Sequence[str]) -> list[epath.Path]:
    """Returns the workdirs among and below the given folders, each once; InputError where there is none at all.

    Files, broken links and folders without a run are passed over: a shell's `runs/*` brings them along.
    """
    found = {}
    for name in paths:
        path = epath.Path(name).expanduser()
        if not path.exists() and not os.path.islink(path):
            raise InputError(f"no folder {name}; allowed: workdirs of training runs, and folders of them")
        below = list(_workdirs(path)) if path.is_dir() else []
        if not below:
            log.info("%s is no workdir and holds none: passed over", name)
        found |= {str(each.resolve()): each for each in below}
    if not found:
        raise InputError(
            f"no training run ({CONFIG_FILE} and {CLASSES_FILE}) in {', '.join(paths)}; start one: "
            "python -m animesion_jax.main --config=configs/demo.py --workdir=runs/demo"
        )
    return list(found.values())


def _workdirs(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields the folder if it is a workdir, else those below it, by name."""
    if all((folder / name).exists() for name in (CONFIG_FILE, CLASSES_FILE)):
        yield folder
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            yield from _workdirs(child)


def read_runs(folders: Iterable[epath.Path]) -> tuple[list[Run], dict[str, str]]:
    """Returns the runs, and what is damaged by the path of those that are; InputError where all are."""
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
    """Returns the run in a workdir; InputError where its files are damaged."""
    config = ADDED | dict(_flat(read_json(folder / CONFIG_FILE, dict)))
    for name in REQUIRED:
        if name not in config:
            raise InputError(f"{folder / CONFIG_FILE} has no field '{name}'; restore it or leave {folder} out")
    class_names = tuple(read_json(folder / CLASSES_FILE, list))
    rows = read_rows(str(folder))
    if not all(isinstance(row, dict) and {"step", "epoch", "split"} <= row.keys() for row in rows):
        raise InputError(f"{folder / ROWS_FILE} is damaged (a row lacks step, epoch or split); leave {folder} out")
    results, missing = {}, _reached(config, rows)
    if (folder / RESULTS_FILE).exists():
        results = read_json(folder / RESULTS_FILE, dict)
        missing = "" if results else "it has no test split"
    for weights in ("last", "best") if results else ():
        metrics = results.get(weights)
        absent = [
            name
            for name in ACCURACIES
            if not isinstance(metrics, dict) or not isinstance(metrics.get(name), int | float)
        ]
        if absent:
            raise InputError(
                f"{folder / RESULTS_FILE} has no {absent[0]} of the {weights} weights; restore it or leave {folder} out"
            )
    return Run(str(folder), config, class_names, rows, results, missing)


def _reached(config: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f"nothing logged of {config['epochs']} epochs"
    return f"at epoch {rows[-1]['epoch']:g} of {config['epochs']}, step {rows[-1]['step']}"


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, tuple(value) if isinstance(value, list) else value
