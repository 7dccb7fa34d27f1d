"""Studies of image size and batch size: the runs of a sweep, as its sweep.json describes them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from animesion_jax.errors import InputError
from animesion_jax.files import read_json
from animesion_jax.report.groups import Group, describe, group_runs
from animesion_jax.report.runs import Run
from animesion_jax.workdir.names import SWEEP_FILE

SIZES = ("image_size", "batch_size")
# The learning rate along a line of batch sizes, by `learning_rate_scaling`.
SCALINGS = {"linear": "lr ∝ batch", "sqrt": "lr ∝ √batch"}


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep.json.

    Attributes:
      path: folder of the sweep, which holds a workdir per run.
      grid: values by config field.
      learning_rate_scaling: "none", "linear" or "sqrt" in the batch size.
      scale_crop_margin: whether the crop margin grows with the image size.
      runs: names of the workdirs.
    """

    path: str
    grid: dict[str, list]
    learning_rate_scaling: str
    scale_crop_margin: bool
    runs: tuple[str, ...]

    def holds(self, run: Run) -> bool:
        """Returns whether a run belongs to the sweep."""
        path = epath.Path(run.path)
        return str(path.parent) == self.path and path.name in self.runs


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
        if size == "batch_size" and self.sweep.learning_rate_scaling in SCALINGS:
            return [SCALINGS[self.sweep.learning_rate_scaling]]
        margin = ["crop margin ∝ size"] if size == "image_size" and self.sweep.scale_crop_margin else []
        return [*margin, describe("learning_rate", groups[0].config["learning_rate"])]


def read_sweeps(workdirs: Iterable[epath.Path]) -> list[Sweep]:
    """Returns the sweeps that workdirs belong to; InputError for a damaged sweep.json."""
    sweeps = []
    for folder in dict.fromkeys(workdir.parent for workdir in workdirs):
        path = folder / SWEEP_FILE
        if path.exists():
            record = read_json(path)
            try:
                settings = [record[name] for name in ("grid", "learning_rate_scaling", "scale_crop_margin")]
                sweeps.append(Sweep(str(folder), *settings, tuple(record["runs"])))
            except KeyError as error:
                raise InputError(f"{path} is damaged (no {error}); start the sweep again to rewrite it") from error
    return sweeps


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
