"""report(workdirs, output): training runs beside the paper's tables, from the JSON files of their workdirs."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from typing import Any

from etils import epath

from animesion_jax.files import write_json
from animesion_jax.report.groups import group_runs
from animesion_jax.report.markdown import render
from animesion_jax.report.plots import draw_curves, draw_sizes
from animesion_jax.report.runs import Run, find_runs, read_runs
from animesion_jax.report.size_studies import Sweep, find_studies, read_sweeps
from animesion_jax.report.tables import other_tables, paper_tables

log = logging.getLogger(__name__)

CSV_COLUMNS = (
    "table", "dataset", "num_classes", "model", "pretrained", "image_size", "batch_size", "epochs", "learning_rate",
    "faithful", "paper_top1", "paper_top5", "top1_mean", "top1_sd", "top5_mean", "top5_sd", "n", "seeds", "weights",
    "runs", "notes",
)  # fmt: skip


def report(workdirs: Sequence[str], output: str, weights: str = "last") -> str:
    """Writes report.md, report.csv, report.json, curves.png and sizes.png, and returns the Markdown.

    A run is in a table of the paper if data set, number of classes, image size, model and pretraining are those of a
    row. Runs that differ only in the seed share a line. Runs of a sweep over image size or batch size, with its
    sweep.json beside them, also have a table of sizes and lines in sizes.png. Accuracies in CSV and JSON are fractions;
    they are empty or null for rows without a run and for values that are not finite.

    report.csv has a line per table line and the columns `CSV_COLUMNS`. "table" is the number in the paper, empty for
    further tables. "; " separates several seeds, runs or notes.

    report.json is {"weights", "tables", "other", "runs", "unfinished"}:
      tables: of the paper, {"number", "config", "dataset", "num_classes", "image_size", "batch_size", "epochs",
        "rows"}.
      other: of further runs, {"dataset", "num_classes", "rows"}; their rows lack "paper_top1" and "paper_top5".
      rows: {"model", "name", "pretrained", "paper_top1", "paper_top5", "top1_mean", "top1_sd", "top5_mean", "top5_sd",
        "n", "seeds", "runs", "image_size", "batch_size", "epochs", "learning_rate", "faithful", "notes"}; "name" is the
        paper's, "n" the number of seeds, "faithful" whether the runs trained as `paper.FAITHFUL` says.
      runs: those with results, {"path", "seed", "step", "split", "examples", "loss", "top1_accuracy", "top5_accuracy"}.
      unfinished: the others, {"path", "reached"}; "reached" names the damage of damaged ones.

    Args:
      workdirs: of runs, or folders that hold them at any depth; local or gs://.
      output: folder to write into; local or gs://.
      weights: "last", as in the paper's tables, or "best" by validation top-1.

    Raises:
      InputError: a path does not exist, there is no run, or all runs are damaged.
    """
    folders = find_runs(workdirs)
    runs, damaged = read_runs(folders)
    sweeps, damaged_sweeps = read_sweeps(folders)
    groups, studies = group_runs(runs), find_studies(runs, sweeps)
    finished = [group for group in groups if group.finished]
    content = {
        "weights": weights,
        "tables": paper_tables(finished, weights),
        "other": other_tables(finished, weights),
        "runs": [{"path": run.path, "seed": run.config["seed"], **run.results[weights]} for run in runs if run.results],
        "unfinished": [
            {"path": path, "reached": reason}
            for path, reason in (_unfinished(runs, sweeps) | damaged | damaged_sweeps).items()
        ],
    }
    folder = epath.Path(output).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    plots = _write_plots(folder, {"curves.png": draw_curves(groups), "sizes.png": draw_sizes(studies, weights)})
    text = render(content, studies, plots)
    (folder / "report.md").write_text(text)
    content = finite(content)
    (folder / "report.csv").write_text(to_csv(content))
    write_json(folder / "report.json", content)
    log.info("wrote report.md, report.csv, report.json%s to %s", "".join(f", {name}" for name in plots), folder)
    return text


def _unfinished(runs: Sequence[Run], sweeps: Sequence[Sweep]) -> dict[str, str]:
    """Returns, by path, how far runs without results got, and the status of those that a sweep has not begun."""
    unfinished = {}
    for run in runs:
        if not run.results:
            faults = [sweep.fault(epath.Path(run.path).name) for sweep in sweeps if sweep.holds(run)]
            unfinished[run.path] = "; ".join(filter(None, (run.missing, *faults)))
    for sweep in sweeps:
        for name in sweep.runs:
            if not (epath.Path(sweep.path) / name).exists():
                unfinished[f"{sweep.path}/{name}"] = sweep.fault(name)
    return unfinished


def _write_plots(folder: epath.Path, figures: dict[str, Any]) -> list[str]:
    """Writes figures by file name, and returns the names; None removes the plot of an earlier report."""
    for name, figure in figures.items():
        (folder / name).unlink(missing_ok=True)
        if figure:
            with (folder / name).open("wb") as file:
                figure.savefig(file, format="png", dpi=110)
    return [name for name, figure in figures.items() if figure]


def finite(value: Any) -> Any:
    """Returns a tree with None for NaN and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(content: dict[str, Any]) -> str:
    """Returns report.csv for the content of report.json."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in (*content["tables"], *content["other"]):
        shared = {name: table.get(name) for name in ("dataset", "num_classes")} | {"table": table.get("number")}
        for row in table["rows"]:
            joined = {name: "; ".join(map(str, row[name])) for name in ("seeds", "runs", "notes")}
            writer.writerow(shared | row | joined | {"weights": content["weights"] if row["n"] else None})
    return text.getvalue()
