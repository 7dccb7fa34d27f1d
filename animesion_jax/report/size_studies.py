"""Studies of image size and batch size: the runs of a sweep, as its sweep.json describes them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from animesion_jax.errors import InputError
from animesion_jax.files import read_json
from animesion_jax.report.groups import Group, describe, group_runs
from animesion_jax.report.runs import Run
from animesion_jax.workdir.names import SWEEP_FILE

log = logging.getLogger(__name__)

SIZES = ("image_size", "batch_size")
# The learning rate along a line of batch sizes, by `learning_rate_scaling`.
SCALINGS = {"linear": "lr ∝ batch", "sqrt": "lr ∝ √batch"}
FIELDS = {"grid": dict, "learning_rate_scaling": str, "scale_crop_margin": bool, "runs": dict}


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep.json.

    Attributes:
      path: folder of the sweep, which holds a workdir per run.
      grid: values by config field.
      learning_rate_scaling: "none", "linear" or "sqrt" in the batch size.
      scale_crop_margin: whether the crop margin grows with the image size.
      runs: {"status": ..., "error": ...} by name of the workdir.
    """

    path: str
    grid: dict[str, list]
    learning_rate_scaling: str
    scale_crop_margin: bool
    runs: dict[str, dict[str, str]]

    def holds(self, run: Run) -> bool:
        """Returns whether a run belongs to the sweep."""
        path = epath.Path(run.path)
        return str(path.parent) == self.path and path.name in self.runs

    def fault(self, name: str) -> str:
        """Returns status and error of a run that has not ended; empty without such an entry."""
        entry = self.runs.get(name, {})
        return ": ".join(filter(None, (entry.get("status"), entry.get("error"))))


@dataclass(frozen=True)
class Study:
    """Finished runs of a sweep that differ in image size, batch size and seed only.

    Attributes:
      sweep: the sweep.
      groups: the runs, grouped by sizes.
    """

    sweep: Sweep
    groups: list[Group]

    @property
    def data(self) -> tuple[str, tuple[str, ...]]:
        """The data set (name, with its config, and class names)."""
        return self.groups[0].data

    @property
    def words(self) -> list[str]:
        """The model and its values of the other grid fields."""
        group = self.groups[0]
        fields = [name for name in self.sweep.grid if name not in (*SIZES, "model", "seed")]
        return [group.name, *(describe(name, group.config[name]) for name in fields)]

    def lines(self, size: str) -> list[tuple[list[str], list[Group]]]:
        """Returns (words of the label, groups by ascending size) per line along "image_size" or "batch_size".

        The groups of a line have the same value of the other size.
        """
        (other,) = set(SIZES) - {size}
        lines: dict[int, list[Group]] = {}
        for group in sorted(self.groups, key=lambda group: (group.config[other], group.config[size])):
            lines.setdefault(group.config[other], []).append(group)
        return [
            ([*self.words, describe(other, value), *self._changes_along(size, groups)], groups)
            for value, groups in lines.items()
        ]

    def _changes_along(self, size: str, groups: Sequence[Group]) -> list[str]:
        """Returns in words how crop margin and learning rate change along a line."""
        words = ["crop margin ∝ size"] if size == "image_size" and self.sweep.scale_crop_margin else []
        rates = sorted({group.config["learning_rate"] for group in groups})
        if size == "batch_size" and self.sweep.learning_rate_scaling in SCALINGS:
            return [*words, SCALINGS[self.sweep.learning_rate_scaling]]
        return [*words, describe("learning_rate", rates[0]) + (f" to {rates[-1]:g}" if len(rates) > 1 else "")]


def read_sweeps(workdirs: Iterable[epath.Path]) -> tuple[list[Sweep], dict[str, str]]:
    """Returns the sweeps that workdirs belong to, and by path the faults of damaged sweep.json files."""
    sweeps, damaged = [], {}
    for folder in dict.fromkeys(workdir.parent for workdir in workdirs):
        if (folder / SWEEP_FILE).exists():
            try:
                sweeps.append(_read_sweep(folder))
            except InputError as error:
                log.warning("no size study: %s", error)
                damaged[str(folder / SWEEP_FILE)] = str(error)
    return sweeps, damaged


def _read_sweep(folder: epath.Path) -> Sweep:
    record: dict[str, Any] = read_json(folder / SWEEP_FILE)
    for name, kind in FIELDS.items():
        if not isinstance(record.get(name), kind):
            raise InputError(f"{folder / SWEEP_FILE} is damaged (no {name}); start the sweep again to write it anew")
    return Sweep(str(folder), **{name: record[name] for name in FIELDS})


def find_studies(runs: Sequence[Run], sweeps: Iterable[Sweep]) -> list[Study]:
    """Returns the studies of all sweeps that have results for two image sizes or two batch sizes."""
    studies = []
    for sweep in sweeps:
        alike: dict[Any, list[Run]] = {}
        for run in runs:
            if run.results and sweep.holds(run):
                fixed = tuple(run.config[name] for name in sweep.grid if name not in (*SIZES, "seed"))
                alike.setdefault((run.data, fixed), []).append(run)
        for members in alike.values():
            if any(len({run.config[size] for run in members}) > 1 for size in SIZES):
                studies.append(Study(sweep, group_runs(members)))
    return studies
