"""report(workdirs, output): training runs beside the paper's tables, from the JSON files of their workdirs."""

import csv
import io
import logging
import math
from collections.abc import Sequence
from typing import Any

from etils import epath

from animesion_jax.errors import encodable
from animesion_jax.files import expand_home, write_json
from animesion_jax.fonts import fonts_for
from animesion_jax.report.groups import group_runs
from animesion_jax.report.markdown import render
from animesion_jax.report.plots import draw_curves, draw_sizes
from animesion_jax.report.runs import find_runs, read_runs
from animesion_jax.report.size_studies import find_studies, read_sweeps
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
    row. Runs that differ only in the seed share a line. Runs of a sweep over image size or batch size also have a table
    of sizes and lines in sizes.png.

    report.csv has a line per table line and the columns `CSV_COLUMNS`. "table" is the number in the paper, empty for
    further tables. "; " separates several seeds, runs or notes.

    report.json is {"weights", "tables", "other", "runs", "unfinished"}. The rows of "tables" (the paper's) and "other"
    (further data or models) have the columns of `tables.line`, "model", "name" (the paper's) and "pretrained"; those of
    the paper's also "paper_top1" and "paper_top5". Accuracies are fractions, null without a run. "runs" are those with
    results; "unfinished" the others, {"path", "reached"}, with the error of a damaged run.

    Args:
      workdirs: of runs, or folders that hold them at any depth; local or gs://.
      output: folder to write into; local or gs://.
      weights: "last", as in the paper's tables, or "best" by validation top-1.

    Raises:
      InputError: a path does not exist, there is no run, all runs are damaged, or a sweep.json is.
    """
    folders = find_runs(workdirs)
    runs, damaged = read_runs(folders)
    groups, studies = group_runs(runs), find_studies(runs, read_sweeps(folders))
    results = {run.path: {"seed": run.config["seed"], **finite(run.results[weights])} for run in runs if run.results}
    finished = [group for group in groups if group.finished]
    unfinished = {run.path: run.reached for run in runs if not run.results} | damaged
    content = {
        "weights": weights,
        "tables": paper_tables(finished, weights),
        "other": other_tables(finished, weights),
        "runs": [{"path": path, **metrics} for path, metrics in results.items()],
        "unfinished": [{"path": path, "reached": reached} for path, reached in unfinished.items()],
    }
    folder = epath.Path(expand_home(output))
    folder.mkdir(parents=True, exist_ok=True)
    plots = _write_plots(folder, {"curves.png": draw_curves(groups), "sizes.png": draw_sizes(studies, weights)})
    text = encodable(render(content, studies, plots))
    (folder / "report.md").write_bytes(text.encode())
    (folder / "report.csv").write_bytes(encodable(to_csv(content)).encode())
    write_json(folder / "report.json", content)
    log.info("wrote report.md, report.csv, report.json%s to %s", "".join(f", {name}" for name in plots), folder)
    return text


def _write_plots(folder: epath.Path, figures: dict[str, Any]) -> list[str]:
    """Writes figures by file name, and returns the names; None removes the plot of an earlier report."""
    from matplotlib.text import Text

    texts = [text for figure in figures.values() if figure for text in figure.findobj(Text)]
    with fonts_for(text.get_text() for text in texts) as families:
        for text in texts:
            text.set(fontfamily=families, parse_math=False)
        for name, figure in figures.items():
            (folder / name).unlink(missing_ok=True)
            if figure:
                with (folder / name).open("wb") as file:
                    figure.savefig(file, format="png", dpi=110)
    return [name for name, figure in figures.items() if figure]


def finite(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns metrics with None for NaN and infinity, which a loss may be and JSON cannot hold."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }


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
