"""Groups of runs that differ only in the seed, and descriptions of their settings."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from animesion_jax.report.runs import Run

# Format of a setting; "name value" for all others.
WORDINGS = {"image_size": "{} px", "batch_size": "batch {}", "learning_rate": "lr {}", "pretrained": "from {}"}


@dataclass(frozen=True)
class Group:
    """Runs that differ at most in the seed and in fields that do not change the result."""

    runs: tuple[Run, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The config of the first run."""
        return self.runs[0].config

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that changes the result, without the seed."""
        return self.runs[0].settings

    @property
    def data(self) -> tuple[str, tuple[str, ...]]:
        """The data set (name, with its config, and class names)."""
        return self.runs[0].data

    @property
    def pretrained(self) -> bool:
        """Whether training started from pretrained weights."""
        return bool(self.config["pretrained"])

    @property
    def name(self) -> str:
        """The model, and whether it was pretrained."""
        return self.config["model"] + (" pretrained" if self.pretrained else "")

    @property
    def finished(self) -> tuple[Run, ...]:
        """The runs with results."""
        return tuple(run for run in self.runs if run.results)

    @property
    def seeds(self) -> list[int]:
        """The distinct seeds of the finished runs."""
        return list(dict.fromkeys(run.config["seed"] for run in self.finished))

    def mean_and_sd(self, weights: str, metric: str) -> tuple[float, float | None]:
        """Returns mean and sample standard deviation of a test metric over seeds.

        Several runs of a seed count as one, by their mean. The deviation is None for a single seed.
        """
        values: dict[int, list[float]] = {}
        for run in self.finished:
            values.setdefault(run.config["seed"], []).append(run.results[weights][metric])
        means = [statistics.fmean(each) for each in values.values()]
        return statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Returns the runs grouped by settings and data, ordered by data, model and sizes."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault((frozenset(run.settings.items()), run.data), []).append(run)
    return sorted((Group(tuple(members)) for members in groups.values()), key=_order)


def _order(group: Group) -> tuple:
    config = group.config
    sizes = (config["image_size"], config["batch_size"], config["epochs"], config["learning_rate"] or 0.0)
    return (group.data, config["model"], group.pretrained, *sizes)


def describe_differences(group: Group, groups: Iterable[Group], known: Iterable[str] = ()) -> list[str]:
    """Returns the settings in which a group differs from those of its model and data set, except the `known` ones."""
    similar = [each.settings for each in groups if (each.data, each.name) == (group.data, group.name)]
    names = [*WORDINGS, *sorted(group.settings.keys() - WORDINGS)]
    return [
        describe(name, group.settings[name])
        for name in names
        if name not in known and len({each.get(name) for each in similar}) > 1
    ]


def describe(name: str, value: Any) -> str:
    """Returns a setting in words, such as "batch 64"."""
    return WORDINGS.get(name, name + " {}").format(format_value(value))


def format_value(value: Any) -> str:
    """Returns a value as text: 0.003 for 0.0030000000000000001, "null" for None, "none" for an empty one."""
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value) or "none"
