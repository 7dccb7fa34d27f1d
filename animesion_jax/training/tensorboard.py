"""The metrics log of a training run, with TensorBoard events beside it."""

import contextlib
import logging
from collections.abc import Iterator

from clu import metric_writers
from etils import epath

from animesion_jax import distributed
from animesion_jax.errors import first_line
from animesion_jax.files import expand_home
from animesion_jax.workdir.metrics_log import MetricsLog

FOLDER = "tensorboard"

log = logging.getLogger(__name__)


class TensorBoardLog(MetricsLog):
    """A `MetricsLog` that also writes events to `workdir/tensorboard`, as "SPLIT/NAME"."""

    def __init__(self, workdir: str, start_step: int):
        super().__init__(workdir, start_step)
        folder = epath.Path(expand_home(workdir)) / FOLDER
        self._events = metric_writers.SummaryWriter(str(folder)) if distributed.is_first() else None

    def write(self, step: int, epoch: float, split: str, metrics: dict[str, float]) -> None:
        """Adds a row, logs it and writes its events."""
        super().write(step, epoch, split, metrics)
        if self._events:
            with _logging_failure():
                self._events.write_scalars(step, {f"{split}/{name}": value for name, value in metrics.items()})

    def close(self) -> None:
        """Closes the files and draws curves.png."""
        if self._events:
            with _logging_failure():
                self._events.close()
        super().close()


@contextlib.contextmanager
def _logging_failure() -> Iterator[None]:
    """Logs an error in the block and continues: events are optional."""
    try:
        yield
    except Exception as error:
        log.warning("TensorBoard's events cannot be written: %s", first_line(error))
