"""Groups of runs as rows of tables: those of the paper, and further tables for other runs."""

from collections.abc import Sequence
from typing import Any

from animesion_jax.config import FIELDS
from animesion_jax.paper import DATASETS, FAITHFUL, FAITHFUL_SPLITS, HEAD_ONLY, SHORT_NAMES, TABLES, Table
from animesion_jax.report.groups import Group, describe, describe_differences, format_value

# Settings that all tables of the paper share. Null is the model family's.
RECIPE = {
    "mean": None, "std": None, "dropout_rate": None,
    "train_split": "train", "test_split": "test", "held_out": 0.0, "crop_margin": 32, "fit": "squash",
    "dtype": "float32",
    "learning_rate": 1e-3, "momentum": 0.9, "schedule": "piecewise", "decay_factor": 3.0,
    "augment.flip": 0.5, "augment.brightness": 0.1, "augment.contrast": 0.1, "augment.saturation": 0.1,
    "augment.hue": 0.1, "vit.pool": "token", "vit.pre_logits": False, "resnet.initializer": "xavier",
    "grad_accumulation": 1, "augment.erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, "optimizer": "sgd",
    "weight_decay": 0.0, "label_smoothing": 0.0, "logit_adjustment": 0.0, "class_weights": "none", "ema_decay": 0.0,
    "stages": 1,
}  # fmt: skip
# Our columns of a row of the paper without a run.
NO_RUNS = {
    "top1_mean": None, "top1_sd": None, "top5_mean": None, "top5_sd": None, "n": 0, "seeds": [], "runs": [],
    "image_size": None, "batch_size": None, "epochs": None, "learning_rate": None, "faithful": None, "notes": [],
}  # fmt: skip
# Settings that further tables show in columns.
COLUMNS = ("dataset", "model", "image_size", "batch_size", "epochs", "learning_rate")


def recipe(table: Table, group: Group) -> dict[str, Any]:
    """Returns the paper's settings for the row of a group, by config field."""
    frozen = group.pretrained and group.config["model"] in HEAD_ONLY
    return RECIPE | FAITHFUL_SPLITS.get(table.dataset, {}) | {
        "dataset": DATASETS[table.dataset],
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
            top1, top5 = (round(each / 100, 6) for each in percents)
            row = {"model": model, "name": SHORT_NAMES[model], "pretrained": pretrained}
            row |= {"paper_top1": top1, "paper_top5": top5}
            ours = [
                group
                for group in groups
                if table_of(group) is table and (group.config["model"], group.pretrained) == (model, pretrained)
            ]
            lines = [line(group, weights, paper_notes(group, table, ours)) for group in ours]
            rows.extend(row | each for each in lines or [NO_RUNS])
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
        notes = start + describe_differences(group, others, (*COLUMNS, "pretrained"))
        row = {"model": group.config["model"], "name": SHORT_NAMES.get(group.config["model"])}
        table["rows"].append({**row, "pretrained": group.pretrained, **line(group, weights, notes)})
    return list(tables.values())


def line(group: Group, weights: str, notes: Sequence[str]) -> dict[str, Any]:
    """Returns our columns of a row."""
    top1_mean, top1_sd = group.mean_and_sd(weights, "top1_accuracy")
    top5_mean, top5_sd = group.mean_and_sd(weights, "top5_accuracy")
    seeds = [run.config["seed"] for run in group.finished]
    repeated = [seed for seed in group.seeds if seeds.count(seed) > 1]
    warnings = dict.fromkeys(run.warning for run in group.finished if run.warning)
    return {
        "top1_mean": top1_mean,
        "top1_sd": top1_sd,
        "top5_mean": top5_mean,
        "top5_sd": top5_sd,
        "n": len(group.seeds),
        "seeds": group.seeds,
        "runs": [run.path for run in group.finished],
        "image_size": group.config["image_size"],
        "batch_size": group.config["batch_size"],
        "epochs": group.runs[0].epochs,
        "learning_rate": group.config["learning_rate"],
        "faithful": is_faithful(group),
        "notes": [*notes, *warnings, *(f"seed {seed} counts once, by the mean of its runs" for seed in repeated)],
    }


def is_faithful(group: Group) -> bool:
    """Returns whether a group repeats the accidents of the paper's runs."""
    wanted = FAITHFUL | FAITHFUL_SPLITS.get(group.data[0].split("/")[0], {})
    return all(group.config[name] == value for name, value in wanted.items())


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
    partly = [name for name in FAITHFUL if settings[name] != FIELDS[name].default]
    return [*notes, *(describe(name, settings[name]) for name in partly), "not faithful"]
