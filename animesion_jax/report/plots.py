"""Plots of a report: validation curves of all runs, and test accuracy against image size and batch size."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from animesion_jax.errors import escape
from animesion_jax.report.groups import Group, describe_differences
from animesion_jax.report.size_studies import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {"image_size": "image size (px)", "batch_size": "batch size"}
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = "os^Dv"
NO_BREAK = "\u00a0"


def draw_curves(groups: Sequence[Group]) -> "Figure | None":
    """Returns validation top-1 against the epoch, one line per run and one colour per group.

    A cross marks the end of a run without results. None if no run was validated.
    """
    from matplotlib.figure import Figure

    groups = [group for group in groups if any(run.validation for run in group.runs)]
    if not groups:
        return None
    labels = _labels(groups)
    figure = Figure(figsize=(13, _height(labels)), layout="constrained")
    axes = figure.subplots()
    for index, (group, label) in enumerate(zip(groups, labels, strict=True)):
        style = _style(index, len(groups))
        for run in (run for run in group.runs if run.validation):
            epochs = [row["epoch"] for row in run.validation]
            accuracies = [100 * row["top1_accuracy"] for row in run.validation]
            axes.plot(epochs, accuracies, **style, label=label, linewidth=1.2, marker="." if len(epochs) == 1 else None)
            if not run.results:
                axes.plot(epochs[-1:], accuracies[-1:], "x", color=style["color"])
            label = None
    unfinished = any(run.validation and not run.results for group in groups for run in group.runs)
    axes.set(title="validation top-1 (%)" + unfinished * ", a cross marks unfinished runs", xlabel="epoch")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small", frameon=False)
    return figure


def draw_sizes(studies: Sequence[Study], weights: str) -> "Figure | None":
    """Returns test top-1 against image size and batch size, two panels per data set; None without studies.

    Error bars are standard deviations over seeds.
    """
    from matplotlib.figure import Figure

    by_data: dict[Any, list[Study]] = {}
    for study in studies:
        by_data.setdefault(study.data, []).append(study)
    if not by_data:
        return None
    panels = [[_lines(each, size) for size in AXES] for each in by_data.values()]
    heights = [max(_height(label for label, _ in lines) for lines in row) for row in panels]
    figure = Figure(figsize=(18, sum(heights)), layout="constrained")
    grid = figure.subplots(len(by_data), 2, squeeze=False, height_ratios=heights)
    for (dataset, class_names), row, pair in zip(by_data, panels, grid, strict=True):
        for size, lines, axes in zip(AXES, row, pair, strict=True):
            _draw_lines(axes, lines, size, weights)
            axes.set(title=f"{dataset} ({len(class_names)} classes): test top-1 (%)", xlabel=AXES[size])
    return figure


def _lines(studies: Sequence[Study], size: str) -> list[tuple[str, list[Group]]]:
    """Returns (label, groups) of all lines; equal labels get the path of their sweep."""
    lines = [(study.sweep.path, words, groups) for study in studies for words, groups in study.lines(size)]
    all_words = [words for _, words, _ in lines]
    return [
        (_wrapped(words + ([f"in {path}"] if all_words.count(words) > 1 else [])), groups)
        for path, words, groups in lines
    ]


def _draw_lines(axes: "Axes", lines: Sequence[tuple[str, list[Group]]], size: str, weights: str) -> None:
    for index, (label, groups) in enumerate(lines):
        values = [group.mean_and_sd(weights, "top1_accuracy") for group in groups]
        axes.errorbar(
            [group.config[size] for group in groups],
            [100 * mean for mean, _ in values],
            # A single seed has no bar.
            [float("nan") if sd is None else 100 * sd for _, sd in values],
            **_style(index, len(lines)), label=label, marker=MARKERS[index % len(MARKERS)], markersize=4, capsize=3,
        )  # fmt: skip
    if size == "batch_size":
        axes.set_xscale("log", base=2)
    ticks = sorted({group.config[size] for _, groups in lines for group in groups})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize="small", frameon=False)


def _labels(groups: Sequence[Group]) -> list[str]:
    """Returns labels that distinguish the groups."""
    several = len({group.data for group in groups}) > 1
    labels = []
    for group in groups:
        data = [f"{group.data[0]} ({len(group.data[1])} classes)"] if several else []
        runs = [f"{len(group.runs)} runs"] if len(group.runs) > 1 else []
        labels.append(_wrapped([group.name, *data, *describe_differences(group, groups), *runs]))
    return labels


def _wrapped(words: Sequence[str]) -> str:
    # Break lines between settings, not inside of "lr 0.001".
    text = escape(", ".join(word.replace(" ", NO_BREAK) for word in words))
    return textwrap.fill(text, width=56, break_on_hyphens=False).replace(NO_BREAK, " ")


def _height(labels: Iterable[str]) -> float:
    """Returns the height in inches that a legend needs."""
    return max(4.0, 1.2 + sum(0.06 + 0.15 * (1 + label.count("\n")) for label in labels))


def _style(index: int, count: int) -> dict[str, Any]:
    """Returns colour and line style of one of `count` lines."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if count <= 10 else "tab20"].colors
    return {"color": colors[index % len(colors)], "linestyle": LINE_STYLES[index // len(colors) % len(LINE_STYLES)]}
