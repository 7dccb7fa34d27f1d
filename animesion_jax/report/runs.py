"""The runs of a report, read from their JSON files alone, and the groups that differ in nothing but the seed."""

import logging
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from animesion_jax.errors import InputError
from animesion_jax.workdir import CLASSES_FILE, CONFIG_FILE, RESULTS_FILE, read_json, read_rows

log = logging.getLogger(__name__)

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
}
# Fields without which a config tells too little; any other may be absent, as in runs older than the field.
REQUIRED = ("dataset", "model", "image_size", "batch_size", "epochs", "learning_rate", "seed")
ACCURACIES = ("top1_accuracy", "top5_accuracy")
# How a setting is written where the bare "name value" would be long.
WORDINGS = {"image_size": "{} px", "batch_size": "batch {}", "learning_rate": "lr {}", "pretrained": "from {}"}


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
        """Returns mean and sample standard deviation of a test metric; None for the latter with one run."""
        values = [run.results[weights][metric] for run in self.counted]
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def find_runs(paths: Sequence[str], output: str = "") -> list[epath.Path]:
    """Returns the workdirs among and below the given folders, each once; InputError for a folder without any.

    Files and the folder of the report itself are passed over: a shell's `runs/*` brings them along.
    """
    found = {}
    for name in paths:
        path = epath.Path(name).expanduser()
        if not path.exists():
            raise InputError(f"no folder {name}; allowed: workdirs of training runs, and folders of them")
        if not path.is_dir() or (output and path.resolve() == epath.Path(output).expanduser().resolve()):
            log.info("%s is no workdir: passed over", name)
            continue
        below = list(_workdirs(path))
        if not below:
            raise InputError(
                f"{name} is not a training run ({CONFIG_FILE} or {CLASSES_FILE} is missing) and holds none; start one: "
                f"python -m animesion_jax.main --config=configs/demo.py --workdir={name}"
            )
        found |= {str(each.resolve()): each for each in below}
    if not found:
        raise InputError(f"no run in {', '.join(paths)}; allowed: workdirs of training runs, and folders of them")
    return list(found.values())


def _workdirs(folder: epath.Path) -> Iterator[epath.Path]:
    """Yields the folder if it is a workdir, else those below it, by name."""
    if all((folder / name).exists() for name in (CONFIG_FILE, CLASSES_FILE)):
        yield folder
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            yield from _workdirs(child)


def read_run(folder: epath.Path) -> Run:
    """Returns the run in a workdir; InputError where its files are damaged."""
    config = dict(_flat(_read(folder / CONFIG_FILE, dict)))
    for name in REQUIRED:
        if name not in config:
            raise InputError(f"{folder / CONFIG_FILE} has no field '{name}'; restore it or leave {folder} out")
    class_names = tuple(_read(folder / CLASSES_FILE, list))
    rows = read_rows(str(folder))
    results, missing = {}, _reached(config, rows)
    # A start after the end, for more epochs, takes the test rows away and leaves the old results until its own end.
    ended = not rows or any(row["split"].startswith("test_") for row in rows)
    if (folder / RESULTS_FILE).exists() and ended:
        results = _read(folder / RESULTS_FILE, dict)
        missing = "" if results else "it has no test split"
    for weights in ("last", "best") if results else ():
        absent = [name for name in ACCURACIES if name not in (results.get(weights) or {})]
        if absent:
            raise InputError(
                f"{folder / RESULTS_FILE} has no {absent[0]} of the {weights} weights; restore it or leave {folder} out"
            )
    return Run(str(folder), config, class_names, rows, results, missing)


def _read(path: epath.Path, kind: type) -> Any:
    value = read_json(path)
    if not isinstance(value, kind):
        raise InputError(f"{path} is damaged (it holds no {kind.__name__}); restore it or train into another workdir")
    return value


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
    """Returns a value as a reader expects it: 0.003, not 0.0030000000000000001."""
    return f"{value:g}" if isinstance(value, float) else str(value)
