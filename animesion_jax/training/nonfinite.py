"""The error for a loss or an update that is not finite, and the list of the batch's files."""

import contextlib
from collections.abc import Iterator

import jax
from etils import epath

from animesion_jax import distributed
from animesion_jax.errors import InputError
from animesion_jax.files import expand_home, write_json
from animesion_jax.training.components import Components, TrainBatches
from animesion_jax.training.stages import stage_after
from animesion_jax.workdir.checkpoints import Checkpoints
from animesion_jax.workdir.names import NONFINITE_FILE


class NonFinite(Exception):
    """A loss, a gradient or an update is not finite.

    Attributes:
      step: number of the update, from 1.
      loss: mean loss of its batch before the update.
      numbers: how many numbers of the gradient, the updated parameters and the batch statistics are not finite.
    """

    def __init__(self, step: int, loss: float, numbers: int):
        super().__init__(f"loss {loss:g}, {numbers} numbers of gradient and update not finite at step {step}")
        self.step, self.loss, self.numbers = step, loss, numbers


@contextlib.contextmanager
def explaining(parts: Components, batches: TrainBatches, checkpoints: Checkpoints, workdir: str) -> Iterator[None]:
    """Turns NonFinite in the block into an InputError, and writes the batch's file names to `NONFINITE_FILE`."""
    try:
        yield
    except NonFinite as error:
        file = epath.Path(expand_home(workdir)) / NONFINITE_FILE
        if not distributed.is_first():
            file = file.with_name(f"{file.stem}_{jax.process_index()}{file.suffix}")
        files = batches.data.file_names(error.step - 1)
        write_json(file, {"step": error.step, "loss": str(error.loss), "nonfinite": error.numbers, "files": files})
        checkpoints.wait()
        finite = checkpoints.step_of("last")
        rate = stage_after(parts.stages, error.step - 1).config.learning_rate
        raise InputError(
            f"the loss is {error.loss:g} at step {error.step} (epoch {error.step / parts.steps_per_epoch:.2f}), and "
            f"{error.numbers} numbers of gradient and update are not finite; the batch's {len(files)} files are in "
            f"{file}; {'there is no checkpoint yet' if finite is None else f'the last finite checkpoint is {finite}'}; "
            f"lower --config.learning_rate (it is {rate:g}) with --accept_changes or in another --workdir, or look at "
            "the files"
        ) from error
