"""Groups of runs as lines of tables: the paper's, and further ones for what the paper has not run."""

import math
from collections.abc import Sequence
from typing import Any

from animesion_jax.paper import (
    DATASETS,
    DROPOUT_RATES,
    FAITHFUL,
    FAITHFUL_SPLITS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SHORT_NAMES,
    TABLES,
    Table,
)
from animesion_jax.report.groups import Group, decides, differing, shown, wording
from animesion_jax.report.runs import ACCURACIES
from animesion_jax.workdir.names import ADDED

# The paper's settings that are the same in all of its tables.
RECIPE = {
    "train_split": "train", "test_split": "test", "held_out": 0.0, "crop_margin": 32, "dtype": "float32",
    "learning_rate": 1e-3, "momentum": 0.9, "schedule": "piecewise", "decay_factor": 3.0, "warmup_epochs": 0.0,
    "augment.flip": 0.5, "augment.brightness": 0.1, "augment.contrast": 0.1, "augment.saturation": 0.1,
    "augment.hue": 0.1, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "vit.pool": "token", "vit.pre_logits": False,
    "resnet.initializer": "xavier", "grad_accumulation": 1,
    "augment.erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "optimizer": "sgd", "weight_decay": 0.0,
    "label_smoothing": 0.0, "logit_adjustment": 0.0, "ema_decay": 0.0, "rebalance_epochs": 0,
}  # fmt: skip
# What a line of a further table says in columns of its own.
COLUMNS = ("dataset", "model", "image_size", "batch_size", "epochs", "learning_rate")


def recipe(table: Table, model: str, pretrained: bool) -> dict[str, Any]:
    """Returns the settings of a row of the paper, as far as a config's fields can be compared with them."""
    kind = next(kind for kind in DROPOUT_RATES if kind in model)
    shared = RECIPE | FAITHFUL_SPLITS.get(table.dataset, {})
    if kind == "resnet":
        shared |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return shared | {
        "dataset": DATASETS[table.dataset],
        "dropout_rate": DROPOUT_RATES[kind],
        "batch_size": table.batch_size,
        "epochs": table.epochs,
        "decay_epochs": table.decay_epochs,
        "trainable": "head" if pretrained and kind == "resnet" else "all",
    }


def table_of(group: Group) -> Table | None:
    """Returns the paper's table with a row for the group: same data set, classes, image size, model and start."""
    name, class_names = group.data
    for table in TABLES:
        same = (table.dataset, table.num_classes, table.image_size) == (
            name.split("/")[0], len(class_names), group.config["image_size"],
        )  # fmt: skip
        if same and (group.config["model"], group.pretrained) in table.rows:
            return table
    return None


def paper_tables(groups: Sequence[Group], weights: str) -> list[dict[str, Any]]:
    """Returns the four tables of the paper, each with all of its rows; a row with several groups has a line for each.

    Args:
      groups: those with results.
      weights: "last" or "best".
    """
    tables = []
    for table in TABLES:
        rows = []
        for (model, pretrained), percents in table.rows.items():
            paper = dict(zip(("paper_top1", "paper_top5"), (round(each / 100, 6) for each in percents), strict=True))
            row = {"model": model, "name": SHORT_NAMES[model], "pretrained": pretrained, **paper}
            ours = [
                group
                for group in groups
                if table_of(group) is table and (group.config["model"], group.pretrained) == (model, pretrained)
            ]
            for group in ours:
                notes = paper_notes(group, table, ours) + run_notes(group, weights)
                rows.append(row | line(group, weights) | {"notes": notes})
            if not ours:
                rows.append(row | line(None, weights) | {"notes": []})
        description = {
            name: getattr(table, name)
            for name in ("number", "config", "dataset", "num_classes", "image_size", "batch_size", "epochs")
        }
        tables.append(description | {"rows": rows})
    return tables


def other_tables(groups: Sequence[Group], weights: str) -> list[dict[str, Any]]:
    """Returns a table per data set for the groups that have no row in the paper."""
    tables: dict[Any, dict[str, Any]] = {}
    others = [group for group in groups if table_of(group) is None]
    for group in others:
        dataset, class_names = group.data
        table = tables.setdefault(group.data, {"dataset": dataset, "num_classes": len(class_names), "rows": []})
        start = [wording("pretrained", group.config["pretrained"])] if group.pretrained else []
        notes = start + differing(group, others, (*COLUMNS, "pretrained")) + run_notes(group, weights)
        model = {"model": group.config["model"], "name": SHORT_NAMES.get(group.config["model"])}
        table["rows"].append({**model, "pretrained": group.pretrained, **line(group, weights), "notes": notes})
    return list(tables.values())


def line(group: Group | None, weights: str) -> dict[str, Any]:
    """Returns our part of a line; its figures are None without a group."""
    values: dict[str, Any] = {}
    for metric, name in zip(ACCURACIES, ("top1", "top5"), strict=True):
        values[f"{name}_mean"], values[f"{name}_sd"] = group.figures(weights, metric) if group else (None, None)
    runs = group.counted if group else ()
    values |= {
        "n": len(runs), "seeds": [run.config["seed"] for run in runs], "runs": [run.path for run in runs],
        "copies": list(group.copies) if group else [],
    }  # fmt: skip
    for name in ("image_size", "batch_size", "epochs", "learning_rate"):
        values[name] = group.config[name] if group else None
    return values | {"faithful": is_faithful(group) if group else None}


def is_faithful(group: Group) -> bool:
    """Returns whether a group trained as the runs behind the tables did; older runs, without the fields, did not."""
    asked = FAITHFUL | FAITHFUL_SPLITS.get(group.data[0].split("/")[0], {})
    return all(group.settings.get(name) == value for name, value in asked.items() if decides(name, group.config))


def paper_notes(group: Group, table: Table, groups: Sequence[Group]) -> list[str]:
    """Returns in words how a group's settings differ from its row in the paper and from the other groups of the row."""
    settings = group.settings
    theirs = recipe(table, settings["model"], group.pretrained)
    changed = [name for name in sorted(theirs) if name in settings and settings[name] != theirs[name]]
    if "held_out" in changed and settings.get("validation_split") == "held_out":
        changed.remove("validation_split")
    notes = [f"{wording(name, settings[name])} (paper: {shown(theirs[name])})" for name in changed]
    notes += differing(group, groups, (*theirs, *FAITHFUL, "pretrained"))
    if group.pretrained:
        notes.append(wording("pretrained", settings["pretrained"]))
    if is_faithful(group):
        return [*notes, "faithful"]
    partly = [wording(name, settings[name]) for name in FAITHFUL if settings.get(name, ADDED[name]) != ADDED[name]]
    return [*notes, *partly, "not faithful"]


def run_notes(group: Group, weights: str) -> list[str]:
    """Returns in words what is odd about a group's runs: copies, one seed with several results, and NaN or infinity."""
    notes = [f"`{copy}` is a copy of `{original}`, not counted" for copy, original in group.copies.items()]
    seeds = [run.config["seed"] for run in group.counted]
    for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        notes.append(f"seed {seed} ran {seeds.count(seed)} times with different results, all counted")
    for run in group.counted:
        result = run.results[weights]
        odd = [name for name in ("loss", *ACCURACIES) if not math.isfinite(result.get(name, 0.0))]
        if odd:
            notes.append(f"{', '.join(odd)} of `{run.path}` not finite")
    return notes
