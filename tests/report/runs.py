"""Workdirs as training leaves them, without training."""

import json

from animesion_jax.config import default_config, to_tree
from animesion_jax.report import report
from animesion_jax.report.groups import group_runs
from animesion_jax.report.runs import read_run

# A row of Table 2: 66.56 / 87.43.
L16 = {
    "dataset": "moeimouto/kaggle", "validation_split": "test", "model": "vit_l16", "resnet": {"initializer": "xavier"},
    "epochs": 200, "decay_epochs": 50,
}  # fmt: skip


def config_tree(**changes):
    """Returns a config.json: the row L-16 of Table 2 with changes; sections are dicts."""
    tree = to_tree(default_config())
    for name, value in [*L16.items(), *changes.items()]:
        tree[name] = tree[name] | value if isinstance(value, dict) else value
    return tree


def write_run(workdir, /, top1=0.5, top5=0.75, classes=173, curve=(0.1, 0.2), ended=True, config=None, **changes):
    """Writes a workdir; the best weights are 1/8 above the last ones."""
    workdir.mkdir(parents=True)
    rows = [
        {"step": 10 * epoch, "epoch": float(epoch), "split": "validation", "loss": 1.0, "top1_accuracy": value}
        for epoch, value in enumerate(curve, start=1)
    ]
    if ended:
        results = {
            weights: {"step": 20, "split": "test", "top1_accuracy": min(top1 + more, 1.0), "top5_accuracy": top5 + more}
            for weights, more in (("last", 0.0), ("best", 0.125))
        }
        (workdir / "results.json").write_text(json.dumps(results))
        rows.append({"step": 20, "epoch": 2.0, "split": "test_last", "top1_accuracy": top1})
    tree = config_tree(**changes) if config is None else to_tree(config)
    (workdir / "config.json").write_text(json.dumps(tree))
    (workdir / "classes.json").write_text(json.dumps([f"class {index}" for index in range(classes)]))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workdir


def write_sweep(folder, grid, scaling="none", scale_crop_margin=False, runs=()):
    """Writes the sweep.json of a sweep with the named runs."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "grid": grid, "learning_rate_scaling": scaling, "scale_crop_margin": scale_crop_margin,
        "runs": {name: {"status": "trained"} for name in runs},
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(record))


def reported(tmp_path, *runs, weights="last"):
    """Returns report.json of the runs, by default of all in tmp_path/runs."""
    report([str(each) for each in runs] or [str(tmp_path / "runs")], str(tmp_path / "report"), weights)
    return json.loads((tmp_path / "report" / "report.json").read_text())


def lines_of(content, paper_rows=True):
    """Returns the rows with runs, of the paper's tables or of the others."""
    tables = content["tables"] if paper_rows else content["other"]
    return [row for table in tables for row in table["rows"] if row["n"]]


def groups_of(tmp_path):
    """Returns the groups of the runs in tmp_path/runs."""
    return group_runs(read_run(folder) for folder in sorted((tmp_path / "runs").iterdir()))


def markdown_of(tmp_path):
    """Returns report.md."""
    return (tmp_path / "report" / "report.md").read_text()


def markdown_rows(text, title):
    """Returns the cells of the table below a title, without its two head lines."""
    section = text.split(f"## {title}")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]
