"""report(workdirs, output): training runs beside the paper's tables, from the JSON files of their workdirs alone."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from typing import Any

from etils import epath

from animesion_jax.files import write_json
from animesion_jax.report.figures import draw_curves, draw_sizes
from animesion_jax.report.groups import group_runs
from animesion_jax.report.markdown import render
from animesion_jax.report.runs import find_runs, read_runs
from animesion_jax.report.tables import other_tables, paper_tables

log = logging.getLogger(__name__)

CSV_COLUMNS = (
    "table", "dataset", "num_classes", "model", "pretrained", "image_size", "batch_size", "epochs", "learning_rate",
    "faithful", "paper_top1", "paper_top5", "top1_mean", "top1_sd", "top5_mean", "top5_sd", "n", "seeds", "weights",
    "runs", "notes",
)  # fmt: skip


def report(workdirs: Sequence[str], output: str, weights: str = "last") -> str:
    """Writes report.md, report.csv, report.json, curves.png and sizes.png, and returns the Markdown.

    A run stands in a table of the paper only where data set, number of classes, image size, model and pretraining are
    those of a row. Runs that differ in nothing but the seed are one line. All accuracies in the CSV and the JSON are
    fractions; those of rows without a run, and those that are not finite, are empty or null.

    report.csv has a line per line of a table, columns `CSV_COLUMNS`; "table" is the paper's number, empty for further
    tables; several seeds, runs or notes are joined by "; ".

    report.json is {"weights", "tables", "other", "runs", "unfinished"}:
      tables: the paper's, {"number", "config", "dataset", "num_classes", "image_size", "batch_size", "epochs", "rows"}.
      other: of further runs, {"dataset", "num_classes", "rows"}; their rows lack "paper_top1" and "paper_top5".
      rows: {"model", "name", "pretrained", "paper_top1", "paper_top5", "top1_mean", "top1_sd", "top5_mean", "top5_sd",
        "n", "seeds", "runs", "copies", "image_size", "batch_size", "epochs", "learning_rate", "faithful", "notes"};
        "name" is the paper's, "n" the number of runs behind a mean, "copies" are runs that are not counted since seed
        and results are another's, "faithful" tells whether the runs trained as `paper.FAITHFUL` says.
      runs: those with results, {"path", "seed", "step", "split", "examples", "loss", "top1_accuracy", "top5_accuracy"}.
      unfinished: the others, {"path", "reached"}; the latter says what is damaged where something is.

    Args:
      workdirs: of runs, or folders that hold them at any depth; local or gs://.
      output: folder to write into; local or gs://.
      weights: "last", as in the paper's tables, or "best" by validation top-1.
    """
    runs, damaged = read_runs(find_runs(workdirs))
    groups = group_runs(runs)
    finished = [group for group in groups if group.counted]
    content = {
        "weights": weights,
        "tables": paper_tables(finished, weights),
        "other": other_tables(finished, weights),
        "runs": [{"path": run.path, "seed": run.config["seed"], **run.results[weights]} for run in runs if run.results],
        "unfinished": [{"path": run.path, "reached": run.missing} for run in runs if not run.results]
        + [{"path": path, "reached": reason} for path, reason in damaged.items()],
    }
    folder = epath.Path(output).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for name, figure in (("curves.png", draw_curves(groups)), ("sizes.png", draw_sizes(finished, weights))):
        # One from an earlier report would show other runs.
        (folder / name).unlink(missing_ok=True)
        if figure:
            with (folder / name).open("wb") as file:
                figure.savefig(file, format="png", dpi=110)
            pictures.append(name)
    text = render(content, finished, pictures)
    (folder / "report.md").write_text(text)
    content = finite(content)
    (folder / "report.csv").write_text(to_csv(content))
    write_json(folder / "report.json", content)
    log.info("wrote report.md, report.csv, report.json%s to %s", "".join(f", {name}" for name in pictures), folder)
    return text


def finite(value: Any) -> Any:
    """Returns a tree with None for NaN and infinity, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(content: dict[str, Any]) -> str:
    """Returns report.csv of the content of report.json."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in (*content["tables"], *content["other"]):
        shared = {name: table.get(name) for name in ("dataset", "num_classes")} | {"table": table.get("number")}
        for row in table["rows"]:
            joined = {name: "; ".join(map(str, row[name])) for name in ("seeds", "runs", "notes")}
            writer.writerow(shared | row | joined | {"weights": content["weights"] if row["n"] else None})
    return text.getvalue()
