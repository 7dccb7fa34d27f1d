"""The Markdown of a report."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from animesion_jax.report.groups import describe, format_value
from animesion_jax.report.size_studies import Study

NO_RUN = "—"
INTRODUCTION = """\
# Report

Test accuracies in percent, with the {weights} weights{paper}. Ours are mean ± sample standard deviation over seeds; the
runs of a line differ only in the seed. {no_run} means no run.

A note lists the settings that differ from the row in the paper. Faithful runs (configs with `,faithful`) repeat the
accidents of the paper's runs, such as layers in evaluation mode from the second epoch on. A null is derived from the
other settings; see animesion_jax/config/derived.py.
"""
PLOTS = {
    "curves.png": "Validation top-1 of every run against the epoch",
    "sizes.png": "Test top-1 against image size and batch size",
}

# Cell by column title. All columns but the first are aligned to the right.
MODEL_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda row: f"{row['name']} (`{row['model']}`)" if row["name"] else f"`{row['model']}`",
    "pretrained": lambda row: "yes" if row["pretrained"] else "no",
}
PAPER_COLUMNS = {
    "paper top-1": lambda row: percent(row["paper_top1"]),
    "paper top-5": lambda row: percent(row["paper_top5"]),
}
SETTING_COLUMNS = {
    "image size": lambda row: str(row["image_size"]),
    "batch size": lambda row: str(row["batch_size"]),
    "epochs": lambda row: str(row["epochs"]),
    "learning rate": lambda row: format_value(row["learning_rate"]),
}
OUR_COLUMNS = {
    "ours top-1": lambda row: percent(row["top1_mean"], row["top1_sd"]),
    "ours top-5": lambda row: percent(row["top5_mean"], row["top5_sd"]),
    "seeds": lambda row: f"{row['n']} ({', '.join(map(str, row['seeds']))})" if row["n"] else NO_RUN,
}


def percent(mean: float | None, sd: float | None = None) -> str:
    """Returns fractions in percent with two decimals, as in the paper."""
    if mean is None:
        return NO_RUN
    return f"{100 * mean:.2f}" + (f" ± {100 * sd:.2f}" if sd is not None else "")


def render(content: dict[str, Any], studies: Sequence[Study], plots: Sequence[str]) -> str:
    """Returns report.md.

    Args:
      content: of report.json.
      studies: of image size and batch size.
      plots: names of the PNG files beside report.md.
    """
    paper = "" if content["weights"] == "last" else "; the paper's with those of the last epoch"
    parts = [INTRODUCTION.format(weights=content["weights"], paper=paper, no_run=NO_RUN)]
    for table in content["tables"]:
        parts.append(
            f"## Table {table['number']}: {table['dataset']}, {table['num_classes']:,} classes, "
            f"{table['image_size']} px, batch {table['batch_size']}, {table['epochs']} epochs\n"
        )
        parts.append(_table(MODEL_COLUMNS | PAPER_COLUMNS | OUR_COLUMNS, table["rows"]))
    for table in content["other"]:
        parts.append(f"## {table['dataset']}, {table['num_classes']:,} classes (not in the paper)\n")
        parts.append(_table(MODEL_COLUMNS | SETTING_COLUMNS | OUR_COLUMNS, table["rows"]))
    for study in studies:
        parts.extend(_study(study, content["weights"]))
    if content["unfinished"]:
        parts.append("## Without results\n")
        parts.append("".join(f"- `{run['path']}`: {run['reached']}\n" for run in content["unfinished"]))
    parts.extend(f"![{PLOTS[name]}]({name})\n" for name in plots)
    return "\n".join(parts)


def _table(columns: dict[str, Callable[[dict[str, Any]], str]], rows: Sequence[dict[str, Any]]) -> str:
    """Returns a table, followed by a numbered note for each row with runs."""
    noted = [row for row in rows if row["n"]]
    if noted:
        columns = columns | {"note": lambda row: str(noted.index(row) + 1) if row["n"] else ""}
    lines = list(_grid(list(columns), [[cell(row) for cell in columns.values()] for row in rows]))
    lines += [""] if noted else []
    for number, row in enumerate(noted, start=1):
        paths = ", ".join(f"`{path}`" for path in row["runs"])
        lines.append(f"{number}. {'; '.join([paths, *row['notes']])}")
    return "\n".join(lines) + "\n"


def _study(study: Study, weights: str) -> Iterator[str]:
    """Yields a table of top-1 by image size (rows) and batch size (columns)."""
    dataset, class_names = study.data
    cells = {}
    for group in study.groups:
        accuracy = percent(*group.mean_and_sd(weights, "top1_accuracy"))
        rate = describe("learning_rate", group.config["learning_rate"])
        cells[group.config["image_size"], group.config["batch_size"]] = f"{accuracy} ({rate})"
    sizes, batches = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    rows = [[f"{size} px", *(cells.get((size, batch), NO_RUN) for batch in batches)] for size in sizes]
    yield f"## Size study: {', '.join(study.words)} on {dataset}, {len(class_names):,} classes, test top-1\n"
    yield f"Sweep `{study.sweep.path}`.\n"
    yield "\n".join(_grid(["", *(f"batch {batch}" for batch in batches)], rows)) + "\n"


def _grid(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|---|{'---:|' * (len(titles) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
