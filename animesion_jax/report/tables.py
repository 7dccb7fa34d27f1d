"""Groups of runs as rows of tables: those of the paper, and further tables for other runs."""

import math
from collections.abc import Sequence
from typing import Any

from animesion_jax.config import FIELDS
from animesion_jax.paper import DATASETS, FAITHFUL, FAITHFUL_SPLITS, SHORT_NAMES, TABLES, Table
from animesion_jax.report.groups import Group, describe, describe_differences, format_value
from animesion_jax.report.runs import ACCURACIES

# Settings that all tables of the paper share.
RECIPE = {
    "train_split": "train", "test_split": "test", "held_out": 0.0, "crop_margin": 32, "dtype": "float32",
    "learning_rate": 1e-3, "momentum": 0.9, "schedule": "piecewise", "decay_factor": 3.0,
    "augment.flip": 0.5, "augment.brightness": 0.1, "augment.contrast": 0.1, "augment.saturation": 0.1,
    "augment.hue": 0.1, "vit.pool": "token", "vit.pre_logits": False, "resnet.initializer": "xavier",
    "grad_accumulation": 1, "augment.erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "optimizer": "sgd",
    "weight_decay": 0.0, "label_smoothing": 0.0, "logit_adjustment": 0.0, "class_weights": "none", "ema_decay": 0.0,
    "stages": 1,
}  # fmt: skip
# Settings that further tables show in columns.
COLUMNS = ("dataset", "model", "image_size", "batch_size", "epochs", "learning_rate")


def recipe(table: Table, group: Group) -> dict[str, Any]:
    """Returns the paper's settings for the row of a group, by config field."""
    family = group.runs[0].family
    frozen = group.pretrained and family.name == "resnet"
    return RECIPE | FAITHFUL_SPLITS.get(table.dataset, {}) | {
        "dataset": DATASETS[table.dataset],
        "mean": tuple(family.mean),
        "std": tuple(family.std),
        "dropout_rate": family.dropout_rate,
        "batch_size": table.batch_size,
        "epochs": table.epochs,
        "decay_epochs": table.decay_epochs,
        "trainable": "head" if frozen else "all",
    }  # fmt: skip


def table_of(group: Group) -> Table | None:
    """Returns the table of the paper with a row for the group.

    Data set, number of classes, image size, model and start (pretrained or not) must match.
    """
    name, class_names = group.data
    key = (name.split("/")[0], len(class_names), group.config["image_size"])
    for table in TABLES:
        is_same = (table.dataset, table.num_classes, table.image_size) == key
        if is_same and (group.config["model"], group.pretrained) in table.rows:
            return table
    return None


def paper_tables(groups: Sequence[Group], weights: str) -> list[dict[str, Any]]:
    """Returns the four tables of the paper with all rows; several groups of a row have a line each.

    Args:
      groups: groups with results.
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
        fields = ("number", "config", "dataset", "num_classes", "image_size", "batch_size", "epochs")
        tables.append({name: getattr(table, name) for name in fields} | {"rows": rows})
    return tables


def other_tables(groups: Sequence[Group], weights: str) -> list[dict[str, Any]]:
    """Returns a table per data set for the groups without a row in the paper."""
    tables: dict[Any, dict[str, Any]] = {}
    others = [group for group in groups if table_of(group) is None]
    for group in others:
        dataset, class_names = group.data
        table = tables.setdefault(group.data, {"dataset": dataset, "num_classes": len(class_names), "rows": []})
        start = [describe("pretrained", group.config["pretrained"])] if group.pretrained else []
        notes = start + describe_differences(group, others, (*COLUMNS, "pretrained")) + run_notes(group, weights)
        model = {"model": group.config["model"], "name": SHORT_NAMES.get(group.config["model"])}
        table["rows"].append({**model, "pretrained": group.pretrained, **line(group, weights), "notes": notes})
    return list(tables.values())


def line(group: Group | None, weights: str) -> dict[str, Any]:
    """Returns our columns of a row; without a group they are None or empty."""
    values: dict[str, Any] = {}
    for metric, name in zip(ACCURACIES, ("top1", "top5"), strict=True):
        values[f"{name}_mean"], values[f"{name}_sd"] = group.mean_and_sd(weights, metric) if group else (None, None)
    seeds = group.seeds if group else []
    values |= {"n": len(seeds), "seeds": seeds, "runs": [run.path for run in group.finished] if group else []}
    for name in ("image_size", "batch_size", "learning_rate"):
        values[name] = group.config[name] if group else None
    return values | {
        "epochs": group.runs[0].epochs if group else None,
        "faithful": is_faithful(group) if group else None,
    }


def is_faithful(group: Group) -> bool:
    """Returns whether a group repeats the accidents of the paper's runs."""
    wanted = FAITHFUL | FAITHFUL_SPLITS.get(group.data[0].split("/")[0], {})
    settings = group.settings
    return all(settings[name] == value for name, value in wanted.items() if name in settings)


def paper_notes(group: Group, table: Table, groups: Sequence[Group]) -> list[str]:
    """Returns how a group's settings differ from its row in the paper and from the other groups of the row."""
    settings, theirs = group.settings, recipe(table, group)
    changed = [name for name in sorted(theirs) if name in settings and settings[name] != theirs[name]]
    if "held_out" in changed and settings["validation_split"] == "held_out":
        changed.remove("validation_split")
    notes = [f"{describe(name, settings[name])} (paper: {format_value(theirs[name])})" for name in changed]
    notes += describe_differences(group, groups, (*theirs, *FAITHFUL, "pretrained"))
    if group.pretrained:
        notes.append(describe("pretrained", settings["pretrained"]))
    if is_faithful(group):
        return [*notes, "faithful"]
    partly = [name for name in FAITHFUL if name in settings and settings[name] != FIELDS[name].default]
    return [*notes, *(describe(name, settings[name]) for name in partly), "not faithful"]


def run_notes(group: Group, weights: str) -> list[str]:
    """Returns notes on seeds with several runs and on metrics that are not finite."""
    seeds = [run.config["seed"] for run in group.finished]
    notes = [
        f"seed {seed} has {seeds.count(seed)} runs and counts once, by their mean"
        for seed in group.seeds
        if seeds.count(seed) > 1
    ]
    for run in group.finished:
        result = run.results[weights]
        names = [name for name in ("loss", *ACCURACIES) if not math.isfinite(result.get(name, 0.0))]
        if names:
            notes.append(f"{', '.join(names)} of `{run.path}` not finite")
    return notes
