"""Pictures of a report: validation curves of all runs, and test accuracy against image size and batch size."""

import logging
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from animesion_jax.report.groups import Group, differing
from animesion_jax.report.sizes import size_lines, size_studies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

AXES = {"image_size": "image size (px)", "batch_size": "batch size"}
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = "os^Dv"
NO_BREAK = "\u00a0"


def draw_curves(groups: Sequence[Group]) -> "Figure | None":
    """Returns validation top-1 against the epoch, a line per run, a colour per group; None without such rows.

    A run that has not ended ends in a cross.
    """
    from matplotlib.figure import Figure

    for run in (run for group in groups for run in group.runs if not run.validation):
        log.info("%s has no validation rows: not in curves.png", run.path)
    groups = [group for group in groups if any(run.validation for run in group.runs)]
    if not groups:
        return None
    labels = _labels(groups)
    figure = Figure(figsize=(13, _height(labels)), layout="constrained")
    axes = figure.subplots()
    for index, (group, label) in enumerate(zip(groups, labels, strict=True)):
        style = _style(index, len(groups))
        runs = [run for run in group.runs if run.validation and run.path not in group.copies]
        for run in runs:
            epochs = [row["epoch"] for row in run.validation]
            accuracies = [100 * row["top1_accuracy"] for row in run.validation]
            axes.plot(epochs, accuracies, **style, label=label, linewidth=1.2, marker="." if len(epochs) == 1 else None)
            if not run.results:
                axes.plot(epochs[-1:], accuracies[-1:], "x", color=style["color"])
            label = None
    going = any(run.validation and not run.results for group in groups for run in group.runs)
    axes.set(title="validation top-1 (%)" + going * ", a cross where a run has not ended", xlabel="epoch")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small", frameon=False)
    return figure


def draw_sizes(groups: Sequence[Group], weights: str) -> "Figure | None":
    """Returns test top-1 against image size and batch size, two panels per data set; None where nothing is studied.

    Lines are those of `size_lines`. Error bars are standard deviations.
    """
    from matplotlib.figure import Figure

    studies: dict[Any, list[list[Group]]] = {}
    for study in size_studies(groups):
        studies.setdefault(study[0].data, []).append(study)
    if not studies:
        return None
    panels = [
        [[(_wrapped(words), line) for study in each for words, line in size_lines(study, field)] for field in AXES]
        for each in studies.values()
    ]
    heights = [max(_height(label for label, _ in lines) for lines in row) for row in panels]
    figure = Figure(figsize=(18, sum(heights)), layout="constrained")
    grid = figure.subplots(len(studies), 2, squeeze=False, height_ratios=heights)
    for (dataset, class_names), row, pair in zip(studies, panels, grid, strict=True):
        for field, lines, axes in zip(AXES, row, pair, strict=True):
            _draw_lines(axes, lines, field, weights)
            axes.set(title=f"{dataset} ({len(class_names)} classes): test top-1 (%)", xlabel=AXES[field])
    return figure


def _draw_lines(axes: "Axes", lines: Sequence[tuple[str, list[Group]]], field: str, weights: str) -> None:
    for index, (label, groups) in enumerate(lines):
        figures = [group.figures(weights, "top1_accuracy") for group in groups]
        axes.errorbar(
            [group.config[field] for group in groups],
            [100 * mean for mean, _ in figures],
            # No bar where there is one seed only.
            [float("nan") if sd is None else 100 * sd for _, sd in figures],
            **_style(index, len(lines)), label=label, marker=MARKERS[index % len(MARKERS)], markersize=4, capsize=3,
        )  # fmt: skip
    if field == "batch_size":
        axes.set_xscale("log", base=2)
    sizes = sorted({group.config[field] for _, groups in lines for group in groups})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small", frameon=False)


def _labels(groups: Sequence[Group]) -> list[str]:
    """Returns what tells each group from the others."""
    several = len({group.data for group in groups}) > 1
    labels = []
    for group in groups:
        data = [f"{group.data[0]} ({len(group.data[1])} classes)"] if several else []
        seeds = len(group.runs) - len(group.copies)
        runs = [f"{seeds} runs"] if seeds > 1 else []
        labels.append(_wrapped([group.name, *data, *differing(group, groups), *runs]))
    return labels


def _wrapped(words: Sequence[str]) -> str:
    # Lines break between two words of a label, not inside of "lr 0.001".
    return textwrap.fill(", ".join(word.replace(" ", NO_BREAK) for word in words), width=56).replace(NO_BREAK, " ")


def _height(labels: Iterable[str]) -> float:
    """Returns the inches that a legend needs beside its axes."""
    return max(4.0, 1.2 + sum(0.06 + 0.15 * (1 + label.count("\n")) for label in labels))


def _style(index: int, count: int) -> dict[str, Any]:
    """Returns colour and line style of one line among `count`."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if count <= 10 else "tab20"].colors
    return {"color": colors[index % len(colors)], "linestyle": LINE_STYLES[index // len(colors) % len(LINE_STYLES)]}
