"""train(config, workdir): restore or begin, train, test, write the results."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
from etils import epath

from animesion_jax import distributed, metrics
from animesion_jax.errors import InputError
from animesion_jax.files import write_json
from animesion_jax.training.components import Trainer
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.running_metrics import NonFinite
from animesion_jax.workdir import run
from animesion_jax.workdir.checkpoints import Checkpoints, Restored, latest_step
from animesion_jax.workdir.metrics_log import Journal
from animesion_jax.workdir.names import NONFINITE_FILE, RESULTS_FILE

log = logging.getLogger(__name__)


def train(
    config: ml_collections.ConfigDict,
    workdir: str,
    devices: Sequence[jax.Device] | None = None,
    *,
    accept_changes: bool = False,
    preemption: Preemption | None = None,
) -> dict[str, Any]:
    """Trains a model, or goes on where the last start in the same workdir stopped.

    However a run was interrupted, it ends with the parameters and the rows of one that was not. With several processes
    every one calls this; the first writes, all read.

    Args:
      config: see configs/common.py.
      workdir: folder for config.json, classes.json, checkpoints/, metrics.jsonl, tensorboard/, curves.png and
        results.json; local or gs://, the same one for all processes.
      devices: devices to train on; None takes those of all processes.
      accept_changes: go on with a config that differs from the one the workdir was begun with.
      preemption: tells when to save and stop; None for never.

    Returns:
      The test metrics by weights, {"last": {...}, "best": {...}}, as written to results.json; empty without a
      test split.

    Raises:
      InputError: what was given cannot be trained with or written to, or the loss is not finite.
      Stopped: `preemption` asked for it, and everything is saved.
    """
    run.check_config(config)
    preemption = preemption or Preemption()
    preemption.check()
    last = latest_step(workdir)
    if last is not None and not accept_changes:
        run.check_same_run(workdir, config)
    trainer = Trainer(config, devices or jax.devices())
    state = None
    if last is None:
        # Before anything is written: the data, and the weights to start from, may be unfit.
        trainer.count_classes()
        state = trainer.initial_state()
    else:
        run.check_classes(run.read_classes(workdir), trainer.dataset.class_names, trainer.dataset.name)
    distributed.wait_for_all("the workdir is looked at")
    with _naming(workdir):
        if last is None and distributed.is_first():
            run.save_description(workdir, config, trainer.dataset.class_names)
        checkpoints = Checkpoints(workdir, keep_last=config.keep_last_checkpoints, first_stage_epochs=config.epochs)
    with preemption.guarding(checkpoints.wait), checkpoints:
        if state is not None:
            start = Restored(0, state, {})
        else:
            start = checkpoints.restore_newest(trainer.abstract_state(), trainer.devices)
            _check_something_is_left(trainer, workdir, start.step)
            log.info("resuming %s at step %d", workdir, start.step)
        trainer.read_data(start.progress.get("streamed"))
        if last is not None:
            trained_on = start.progress.get("examples", trainer.data.num_examples)
            if trained_on != trainer.data.num_examples and not accept_changes:
                raise InputError(
                    f"'{config.train_split}' of {config.dataset} has {trainer.data.num_examples} examples, {workdir} "
                    f"was trained on {trained_on}; allowed: the same data, another --workdir, or --accept_changes"
                )
            # Not before all is known to fit: other commands go by it.
            with _naming(workdir):
                if distributed.is_first():
                    run.save_description(workdir, config, trainer.dataset.class_names)
        return _run(trainer, start, checkpoints, workdir, preemption)


def _check_something_is_left(trainer: Trainer, workdir: str, last: int) -> None:
    """Raises InputError where a workdir's last step is past the config's, or is that of another config."""
    config = trainer.config
    second = f" and config.rebalance_epochs {config.rebalance_epochs}" if config.rebalance_epochs else ""
    if last > trainer.total_steps:
        raise InputError(
            f"{workdir} has trained {last / trainer.steps_per_epoch:g} epochs, config.epochs is {config.epochs}{second}"
            "; allowed: as many or more, or another --workdir"
        )
    changes = run.changes_of_the_run(workdir, config)
    if last == trainer.total_steps and changes:
        raise InputError(
            f"{workdir} has trained all {config.epochs} epochs, with another config: {changes}; allowed: more epochs, "
            "or another --workdir"
        )


@contextlib.contextmanager
def _naming(workdir: str) -> Iterator[None]:
    """Turns what the file system refuses within into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--workdir={workdir} cannot be written to ({error.strerror or error}); allowed: a folder that you may "
            "write in: mend its permissions or give another one"
        ) from error


def _run(
    trainer: Trainer, start: Restored, checkpoints: Checkpoints, workdir: str, preemption: Preemption
) -> dict[str, Any]:
    """Trains from a state to the end, tests the weights and writes the results."""
    config, folder = trainer.config, epath.Path(workdir).expanduser()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(start.state.params))
    log.info(
        "%s (%s parameters) on %s (%d classes), %d epochs of %d steps, %d %s, input cache: %s",
        config.model, f"{parameters:,}", config.dataset, len(trainer.dataset.class_names), config.epochs,
        trainer.steps_per_epoch, len(trainer.devices), trainer.devices[0].platform, trainer.data.cache,
    )  # fmt: skip
    journal = Journal(workdir, start.step)
    try:
        trainer.fit(start, checkpoints, journal, preemption)
        checkpoints.wait()
        results = trainer.test_weights(checkpoints, preemption) if trainer.test else {}
        for weights, result in results.items():
            accuracies = {name: result[name] for name in metrics.SUMS}
            journal.write(result["step"], result["step"] / trainer.steps_per_epoch, f"test_{weights}", accuracies)
        if distributed.is_first():
            write_json(folder / RESULTS_FILE, results)
            (folder / NONFINITE_FILE).unlink(missing_ok=True)
        return results
    except NonFinite as error:
        file = folder / NONFINITE_FILE
        if not distributed.is_first():
            file = file.with_name(f"{file.stem}_{jax.process_index()}{file.suffix}")
        files = trainer.data.file_names(error.step - 1)
        write_json(file, {"step": error.step, "loss": str(error.loss), "nonfinite": error.numbers, "files": files})
        checkpoints.wait()
        finite = checkpoints.step_of("last")
        raise InputError(
            f"the loss is {error.loss:g} at step {error.step} (epoch {error.step / trainer.steps_per_epoch:.2f}), and "
            f"{error.numbers} numbers of gradient and update are not finite; the batch's {len(files)} files are in "
            f"{file}; {'there is no checkpoint yet' if finite is None else f'the last finite checkpoint is {finite}'}; "
            f"lower --config.learning_rate (it is {config.learning_rate:g}) with --accept_changes or in another "
            "--workdir, or look at the files"
        ) from error
    finally:
        journal.close()
