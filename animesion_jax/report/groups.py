"""Groups of runs that differ in nothing but the seed, and what tells one from another in words."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from animesion_jax.report.runs import Run

# Fields of a config that cannot change a test accuracy.
NEUTRAL = (
    "data_dir", "data.cache", "eval_batch_size", "log_every_steps", "keep_last_checkpoints", "default_weights",
)  # fmt: skip
# Fields, by how they begin, and the configs in which they decide nothing.
UNUSED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "vit.": lambda config: "vit" not in config["model"],
    "resnet.": lambda config: "resnet" not in config["model"],
    "pretrained": lambda config: not config.get("pretrained"),
    "keep_head": lambda config: not config.get("pretrained"),
    "decay_": lambda config: config.get("schedule") == "cosine",
    "warmup_epochs": lambda config: config.get("schedule") == "piecewise",
    "rebalance_learning_rate": lambda config: not config.get("rebalance_epochs"),
    # Without batch statistics, parts of a batch give the update of the whole.
    "grad_accumulation": lambda config: "vit" in config["model"],
}
# How a setting is written where the bare "name value" would be long.
WORDINGS = {"image_size": "{} px", "batch_size": "batch {}", "learning_rate": "lr {}", "pretrained": "from {}"}


@dataclass(frozen=True)
class Group:
    """Runs that differ at most in the seed and in what cannot change the result."""

    runs: tuple[Run, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The config of its first run."""
        return self.runs[0].config

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the config that all its runs share and that decides the result."""
        return {
            name: value
            for name, value in self.config.items()
            if name not in ("seed", *NEUTRAL) and decides(name, self.config)
        }

    @property
    def data(self) -> tuple[str, tuple[str, ...]]:
        """What its accuracies are measured on: name of the data set, with its config, and classes."""
        return self.config["dataset"], self.runs[0].class_names

    @property
    def pretrained(self) -> bool:
        """Whether it started from pretrained weights."""
        return bool(self.config.get("pretrained"))

    @property
    def name(self) -> str:
        """The model, and whether it was pretrained."""
        return self.config["model"] + (" pretrained" if self.pretrained else "")

    @property
    def copies(self) -> dict[str, str]:
        """The path of a run by the path of another one that has its seed and its results to the last digit."""
        copies = {}
        for index, run in enumerate(self.runs):
            for earlier in self.runs[:index]:
                same = earlier.config["seed"] == run.config["seed"] and earlier.results == run.results
                if run.results and same and earlier.path not in copies:
                    copies[run.path] = earlier.path
        return copies

    @property
    def counted(self) -> tuple[Run, ...]:
        """The runs behind its figures: those with results that are no copies."""
        return tuple(run for run in self.runs if run.results and run.path not in self.copies)

    def figures(self, weights: str, metric: str) -> tuple[float, float | None]:
        """Returns mean and sample standard deviation of a test metric; None for the latter with one run.

        The mean is NaN, without a deviation, where that of some run is not finite.
        """
        values = [run.results[weights][metric] for run in self.counted]
        if not all(map(math.isfinite, values)):
            return math.nan, None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Returns the runs grouped by settings and data, ordered by data, model and sizes."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        alone = Group((run,))
        groups.setdefault((frozenset(alone.settings.items()), alone.data), []).append(run)
    return sorted((Group(tuple(members)) for members in groups.values()), key=_order)


def _order(group: Group) -> tuple:
    sizes = [group.config[name] for name in ("image_size", "batch_size", "epochs", "learning_rate")]
    return (group.data, group.config["model"], group.pretrained, *sizes)


def decides(name: str, config: dict[str, Any]) -> bool:
    """Returns whether a field has a say in runs of a config: `vit.gelu` has none in those of a ResNet."""
    return not any(name.startswith(prefix) and holds(config) for prefix, holds in UNUSED.items())


def differing(group: Group, groups: Iterable[Group], known: Iterable[str] = ()) -> list[str]:
    """Returns in words the settings, but for the `known` ones, in which the groups of its model and data disagree."""
    settings = group.settings
    trees = [each.settings for each in groups if (each.data, each.name) == (group.data, group.name)]
    order = list(WORDINGS)
    names = sorted(
        {name for tree in trees for name in tree} - set(known),
        key=lambda name: (order.index(name) if name in order else len(order), name),
    )
    names = [name for name in names if len({tree.get(name) for tree in trees}) > 1]
    absent = [name for name in names if name not in settings]
    words = [wording(name, settings[name]) for name in names if name in settings]
    return words + ([f"without {' and '.join(absent)}"] if absent else [])


def wording(name: str, value: Any) -> str:
    """Returns a setting in a few words."""
    return WORDINGS.get(name, name + " {}").format(shown(value))


def shown(value: Any) -> str:
    """Returns a value as a reader expects it: 0.003, not 0.0030000000000000001; "none" for an empty one."""
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"
