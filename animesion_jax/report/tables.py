"""Groups of runs as lines of tables: the paper's, and further ones for what the paper has not run."""

from collections.abc import Sequence
from typing import Any

from animesion_jax.paper import DATASETS, FAITHFUL, SHORT_NAMES, TABLES, Table
from animesion_jax.report.runs import ACCURACIES, Group, decides, differing, shown, wording

# The paper's settings that are the same in all of its tables.
RECIPE = {
    "train_split": "train", "test_split": "test", "held_out": 0.0, "crop_margin": 32, "dtype": "float32",
    "learning_rate": 1e-3, "momentum": 0.9, "schedule": "piecewise", "decay_factor": 3.0,
}  # fmt: skip
# What a line of a further table says in columns of its own.
COLUMNS = ("dataset", "model", "image_size", "batch_size", "epochs", "learning_rate")


def recipe(table: Table, model: str, pretrained: bool) -> dict[str, Any]:
    """Returns the settings of a row of the paper, as far as a config's fields can be compared with them."""
    frozen = pretrained and model.startswith("resnet")
    return RECIPE | {
        "dataset": DATASETS[table.dataset],
        "batch_size": table.batch_size,
        "epochs": table.epochs,
        "decay_epochs": table.decay_epochs,
        "trainable": "head" if frozen else "all",
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
                rows.append(row | line(group, weights) | {"notes": paper_notes(group, table, ours) + run_notes(group)})
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
        notes = start + differing(group, others, (*COLUMNS, "pretrained")) + run_notes(group)
        model = {"model": group.config["model"], "name": SHORT_NAMES.get(group.config["model"])}
        table["rows"].append({**model, "pretrained": group.pretrained, **line(group, weights), "notes": notes})
    return list(tables.values())


def size_studies(groups: Sequence[Group]) -> list[list[Group]]:
    """Returns per data set the groups whose model ran there at several image sizes or batch sizes."""
    studies: dict[Any, list[Group]] = {}
    for group in groups:
        same = [each for each in groups if (each.data, each.config["model"]) == (group.data, group.config["model"])]
        if len({(each.config["image_size"], each.config["batch_size"]) for each in same}) > 1:
            studies.setdefault(group.data, []).append(group)
    return list(studies.values())


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
    return all(group.settings.get(name) == value for name, value in FAITHFUL.items() if decides(name, group.config))


def paper_notes(group: Group, table: Table, groups: Sequence[Group]) -> list[str]:
    """Returns in words how a group's settings differ from its row in the paper and from the other groups of the row."""
    settings = group.settings
    theirs = recipe(table, settings["model"], group.pretrained)
    changed = [name for name in sorted(theirs) if name in settings and settings[name] != theirs[name]]
    notes = [f"{wording(name, settings[name])} (paper: {shown(theirs[name])})" for name in changed]
    notes += differing(group, groups, (*theirs, *FAITHFUL, "pretrained"))
    if group.pretrained:
        notes.append(wording("pretrained", settings["pretrained"]))
    if is_faithful(group):
        return [*notes, "faithful"]
    partly = [wording(name, value) for name, value in FAITHFUL.items() if settings.get(name) == value]
    return [*notes, *partly, "not faithful"]


def run_notes(group: Group) -> list[str]:
    """Returns in words what is odd about a group's runs: copies, and one seed with several results."""
    notes = [f"`{copy}` is a copy of `{original}`, not counted" for copy, original in group.copies.items()]
    seeds = [run.config["seed"] for run in group.counted]
    for seed in sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        notes.append(f"seed {seed} ran {seeds.count(seed)} times with different results, all counted")
    return notes
