"""What a run writes while it goes: metrics.jsonl, TensorBoard events and curves.png."""

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

from clu import metric_writers
from etils import epath

from animesion_jax import hosts
from animesion_jax.atomic import replacing
from animesion_jax.errors import first_line
from animesion_jax.workdir import ROWS_FILE, read_rows

CURVES = "curves.png"

log = logging.getLogger(__name__)


class Journal:
    """Writes one row per call: {"step", "epoch", "split", metrics...}, to metrics.jsonl and TensorBoard.

    Rows after `start_step` are left from an interrupted run, and test rows belong to the end of a run: both will be
    written again and are dropped. Of several processes the first alone writes.
    """

    def __init__(self, workdir: str, start_step: int):
        self._folder = epath.Path(workdir).expanduser()
        self._rows = [
            row for row in read_rows(workdir) if row["step"] <= start_step and not row["split"].startswith("test_")
        ]
        # Before the first process replaces what the others have just read.
        hosts.wait_for_all("metrics.jsonl is read")
        if not hosts.is_first():
            return
        path = self._folder / ROWS_FILE
        with replacing(path) as fresh:
            fresh.write_text("".join(json.dumps(row) + "\n" for row in self._rows))
        self._file = path.open("a")
        self._tensorboard = metric_writers.SummaryWriter(str(self._folder / "tensorboard"))

    def write(self, step: int, epoch: float, split: str, metrics: dict[str, float]) -> None:
        """Adds a row; `epoch` counts from 0 and may be a fraction."""
        row = {"step": step, "epoch": round(epoch, 4), "split": split, **metrics}
        self._rows.append(row)
        if not hosts.is_first():
            return
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        with _reported("TensorBoard's events"):
            self._tensorboard.write_scalars(step, {f"{split}/{name}": value for name, value in metrics.items()})
        figures = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        log.info("epoch %.2f  step %d  %s: %s", epoch, step, split, figures)

    def has(self, step: int, split: str) -> bool:
        """Returns whether there is a row of a step and split."""
        return any(row["step"] == step and row["split"] == split for row in self._rows)

    def close(self) -> None:
        """Writes curves.png and closes the files."""
        if not hosts.is_first():
            return
        self._file.close()
        with _reported("TensorBoard's events"):
            self._tensorboard.close()
        with _reported(CURVES):
            draw_curves(self._rows, self._folder / CURVES)


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Logs what goes wrong within: pictures of a run are not worth the run, nor hiding why it ended."""
    try:
        yield
    except Exception as error:
        log.warning("%s cannot be written: %s", what, first_line(error))


def draw_curves(rows: list[dict[str, Any]], path: epath.Path) -> None:
    """Draws loss, accuracies and learning rate of metrics.jsonl rows over the epochs into a PNG."""
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
