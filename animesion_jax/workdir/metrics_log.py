"""What a run writes while it goes: metrics.jsonl, TensorBoard events and curves.png."""

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

from clu import metric_writers
from etils import epath

from animesion_jax import distributed
from animesion_jax.errors import first_line
from animesion_jax.files import replacing
from animesion_jax.workdir.curves import CURVES, draw_curves
from animesion_jax.workdir.names import ROWS_FILE

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
        distributed.wait_for_all("metrics.jsonl is read")
        if not distributed.is_first():
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
        if not distributed.is_first():
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
        if not distributed.is_first():
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


def read_rows(workdir: str) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl in order; empty when there is none.

    A torn last line, which a kill leaves, is left out; another damaged one is too, and logged.
    """
    path = epath.Path(workdir).expanduser() / ROWS_FILE
    lines = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int) or "split" not in row:
                raise ValueError("not a row")
            rows.append(row)
        except ValueError:
            if number < len(lines):
                log.warning("%s line %d is damaged and left out: %.80r", path, number, line)
    return rows
