"""Writes metrics.jsonl, a row of metrics per line, and the curves drawn from it."""

import json
import logging
from typing import Any, Self

from etils import epath

from animesion_jax import distributed
from animesion_jax.errors import first_line
from animesion_jax.files import expand_home, replacing
from animesion_jax.workdir.names import ROWS_FILE
from animesion_jax.workdir.rows import read_rows

CURVES = "curves.png"

log = logging.getLogger(__name__)


class MetricsLog:
    """Appends rows {"step", "epoch", "split", metrics...} to metrics.jsonl; the first process alone writes.

    An interrupted run writes its rows after `start_step` again, and the test rows at its end: both are dropped first.
    """

    def __init__(self, workdir: str, start_step: int):
        self._folder = epath.Path(expand_home(workdir))
        self._rows = [
            row for row in read_rows(workdir) if row["step"] <= start_step and not row["split"].startswith("test_")
        ]
        # All processes read the file before the first one replaces it.
        distributed.wait_for_all("metrics.jsonl is read")
        if not distributed.is_first():
            return
        path = self._folder / ROWS_FILE
        with replacing(path) as fresh:
            fresh.write_text("".join(json.dumps(row) + "\n" for row in self._rows), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write(self, step: int, epoch: float, split: str, metrics: dict[str, float]) -> None:
        """Adds a row and logs it; `epoch` counts from 0 and may be a fraction."""
        row = {"step": step, "epoch": round(epoch, 4), "split": split, **metrics}
        self._rows.append(row)
        if not distributed.is_first():
            return
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        figures = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("epoch %.2f  step %d  %s: %s", epoch, step, split, figures)

    def has(self, step: int, split: str) -> bool:
        """Returns whether there is a row of a step and split."""
        return any(row["step"] == step and row["split"] == split for row in self._rows)

    def close(self) -> None:
        """Closes the file and draws curves.png."""
        if not distributed.is_first():
            return
        self._file.close()
        try:
            _draw_curves(self._rows, self._folder / CURVES)
        except Exception as error:
            # Plots are optional: log the failure and continue.
            log.warning("%s cannot be written: %s", CURVES, first_line(error))


def _draw_curves(rows: list[dict[str, Any]], path: epath.Path) -> None:
    """Draws loss, accuracies and learning rate over the epochs into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    for split, color in (("train", "tab:blue"), ("validation", "tab:orange")):
        points = [row for row in rows if row["split"] == split]
        epochs = [row["epoch"] for row in points]
        loss.plot(epochs, [row["loss"] for row in points], color=color, label=split)
        for name, style in (("top1_accuracy", "-"), ("top5_accuracy", "--")):
            label = f"{split} {name.split('_')[0].replace('top', 'top-')}"
            accuracy.plot(epochs, [100 * row[name] for row in points], style, color=color, label=label)
        if split == "train":
            rate.plot(epochs, [row["learning_rate"] for row in points], color="tab:green")
    for axes, title in ((loss, "loss (nats)"), (accuracy, "accuracy (%)"), (rate, "learning rate")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
    loss.set_ylim(bottom=0)
    accuracy.set_ylim(0, 100)
    rate.set_ylim(bottom=0)
    loss.legend()
    accuracy.legend(loc="lower right")
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=110)
