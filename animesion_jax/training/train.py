"""train(config, workdir): make the parts, begin or restore, loop, test, write the results."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections
from etils import epath
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from animesion_jax import config as configs
from animesion_jax import distributed, metrics
from animesion_jax.errors import InputError, Stopped
from animesion_jax.files import expand_home, write_json
from animesion_jax.models import abstract_variables, family_of
from animesion_jax.training.components import Components, TrainBatches, make_components
from animesion_jax.training.evaluate import evaluate_split
from animesion_jax.training.nonfinite import explaining
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.running_metrics import RunningMetrics
from animesion_jax.training.stages import stage_after
from animesion_jax.training.state import Start, TrainState, from_items
from animesion_jax.training.tensorboard import TensorBoardLog
from animesion_jax.workdir import run
from animesion_jax.workdir.checkpoints import CHOICES, Checkpoints, latest_step
from animesion_jax.workdir.lock import locked_workdir
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
    """Trains a model, or resumes the run in the workdir.

    An interrupted run ends with the same parameters and rows as one that was not interrupted. With several processes
    every one calls this; the first writes, all read.

    Args:
      config: see `animesion_jax.configs.common`.
      workdir: folder to write; local or gs://, the same for all processes.
      devices: devices to train on; None takes those of all processes.
      accept_changes: resume even if the config differs from that of the workdir.
      preemption: tells when to save and stop; None for never.

    Returns:
      The test metrics by weights, {"last": {...}, "best": {...}}, as in results.json; empty without a test split.

    Raises:
      InputError: an argument is invalid, the workdir cannot be written to or another training runs in it, or the
        loss is not finite.
      Stopped: `preemption` requested a stop; everything is saved.
    """
    configs.check(config, family_of(config.model))
    with locked_workdir(workdir):
        return _train(config, workdir, devices or jax.devices(), accept_changes, preemption or Preemption())


def _train(
    config: ml_collections.ConfigDict,
    workdir: str,
    devices: Sequence[jax.Device],
    accept_changes: bool,
    preemption: Preemption,
) -> dict[str, Any]:
    preemption.check()
    resumes = latest_step(workdir) is not None
    if resumes and not accept_changes:
        run.check_same_run(workdir, config)

    # Make the parts and the first state before anything is written: the data or the weights may not fit.
    parts = make_components(config, devices)
    start, pretrained = (None, None) if resumes else _begin(parts)
    crops = parts.dataset.crops and parts.dataset.crops | {"fit": config.fit}
    if resumes:
        run.check_classes(run.read_classes(workdir), parts.dataset.class_names, parts.dataset.name)
    distributed.wait_for_all("the workdir is read")
    if not resumes:
        run.save_description(workdir, config, parts.dataset.class_names)
        run.save_origin(workdir, parts.num_images, pretrained, crops)

    with _open_checkpoints(parts, workdir) as checkpoints:
        start = start or _restore(parts, checkpoints, config, workdir)
        batches = TrainBatches(parts, start.progress.get("streamed"))
        if resumes:
            batches.check_same_examples(start.progress, workdir, accept_changes)
            # Write these only after every check passed; evaluate and export read them.
            run.save_description(workdir, config, parts.dataset.class_names)
            run.save_origin(workdir, parts.num_images, None, crops)
        _log_summary(parts, start, batches)
        with TensorBoardLog(workdir, start.step) as metrics_log, explaining(parts, batches, checkpoints, workdir):
            _loop(parts, start, batches, checkpoints, metrics_log, preemption)
            results = _test(parts, checkpoints, metrics_log, preemption) if parts.test else {}
            _write_results(results, workdir)
            return results


def _begin(parts: Components) -> tuple[Start, dict[str, Any]]:
    """Returns the start of a new run, and the origin of its weights."""
    parts.count_classes()
    variables, origin = parts.initial_variables()
    return Start(0, parts.stages[0].begin(variables), {}), origin


def _open_checkpoints(parts: Components, workdir: str) -> Checkpoints:
    last_stage_epoch = parts.stages[-1].first_step / parts.steps_per_epoch
    return Checkpoints(workdir, keep_last=parts.config.keep_last_checkpoints, last_stage_epoch=last_stage_epoch)


def _restore(parts: Components, checkpoints: Checkpoints, config: ml_collections.ConfigDict, workdir: str) -> Start:
    """Returns where an interrupted run resumes; the end of the run if only its test is missing."""
    restored = checkpoints.restore_newest(parts.abstract_items, parts.devices)
    if restored.step > parts.total_steps:
        raise InputError(
            f"{workdir} has trained {restored.step / parts.steps_per_epoch:g} epochs, the config has {parts.epochs} "
            "(config.epochs, or those of config.stages); allowed: as many or more, or another --workdir"
        )
    if restored.step == parts.total_steps and (changes := run.changes_of_the_run(workdir, config)):
        raise InputError(
            f"{workdir} has trained all {parts.epochs} epochs, with another config: {changes}; allowed: more epochs, "
            "or another --workdir"
        )
    log.info("resuming %s at step %d", workdir, restored.step)
    return Start(restored.step, from_items(restored.items), restored.progress)


def _write_results(results: dict[str, Any], workdir: str) -> None:
    if distributed.is_first():
        folder = epath.Path(expand_home(workdir))
        write_json(folder / RESULTS_FILE, results)
        (folder / NONFINITE_FILE).unlink(missing_ok=True)


def _log_summary(parts: Components, start: Start, batches: TrainBatches) -> None:
    log.info(
        "%s (%s parameters) on %s (%d classes), %d epochs of %d steps, %d %s, input cache: %s",
        parts.config.model, f"{sum(leaf.size for leaf in jax.tree.leaves(start.state.params)):,}",
        parts.config.dataset, len(parts.dataset.class_names), parts.epochs, parts.steps_per_epoch,
        len(parts.devices), parts.devices[0].platform, batches.data.cache,
    )  # fmt: skip


def _loop(
    parts: Components,
    start: Start,
    batches: TrainBatches,
    checkpoints: Checkpoints,
    metrics_log: TensorBoardLog,
    preemption: Preemption,
) -> None:
    """Trains to the last epoch; saves and evaluates after every epoch, and also saves at a fixed interval of steps.

    Raises:
      NonFinite: a loss, a gradient or an update is not finite; nothing was saved since.
      Stopped: `preemption` requested a stop; everything is saved.
    """
    config, step, state = parts.config, start.step, start.state
    running = RunningMetrics(start.progress.get("totals"))
    preemption.check()
    if step and step % parts.steps_per_epoch == 0:
        _validate(parts, step, state, checkpoints, metrics_log, preemption)
    with _progress_bar(parts, step) as bar:
        while step < parts.total_steps:
            stage = stage_after(parts.stages, step)
            if step and step == stage.first_step:
                state = stage.begin(state.evaluated)
            for batch in batches.epoch_from(step):
                state, sums = stage.train_step(step)(state, batch)
                step += 1
                running.add(step, sums)
                bar.update(config.batch_size)
                end_of_epoch = step % parts.steps_per_epoch == 0
                if end_of_epoch or step % config.log_every_steps == 0:
                    row = running.read() | {"learning_rate": stage.learning_rate(step - 1)}
                    metrics_log.write(step, step / parts.steps_per_epoch, "train", row)
                    bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                with running.paused():
                    stop, every = preemption.requested(), config.checkpoint_every_steps
                    if stop or end_of_epoch or (every and step % every == 0):
                        progress = {"streamed": batches.data.streamed, "examples": batches.data.num_examples}
                        checkpoints.save(step, state.items, progress | {"totals": running.totals()})
                    if stop:
                        checkpoints.wait()
                        raise Stopped(f"stopped by SIGTERM and saved at step {step} of {parts.total_steps}")
                    if end_of_epoch:
                        _validate(parts, step, state, checkpoints, metrics_log, preemption)
    checkpoints.wait()


@contextlib.contextmanager
def _progress_bar(parts: Components, step: int) -> Iterator[tqdm]:
    """Yields a bar of images, at the first process; messages are printed above it."""
    size = parts.config.batch_size
    # A notebook shows the bar, though it is no terminal; None hides it where there is no terminal.
    hidden = not distributed.is_first() or (False if "ipykernel" in sys.modules else None)
    with logging_redirect_tqdm(), tqdm(
        total=parts.total_steps * size, initial=step * size, unit="img", unit_scale=True, desc="training",
        dynamic_ncols=True, disable=hidden,
    ) as bar:  # fmt: skip
        yield bar


def _validate(
    parts: Components,
    step: int,
    state: TrainState,
    checkpoints: Checkpoints,
    metrics_log: TensorBoardLog,
    preemption: Preemption,
) -> None:
    """Evaluates the weights of a checkpoint, unless an interrupted run has done so."""
    done = distributed.any_process(distributed.is_first() and metrics_log.has(step, "validation"))
    if parts.validation and not done:
        result, _ = evaluate_split(parts.eval_step, state.evaluated, parts.validation, parts.devices, preemption.check)
        epoch = step / parts.steps_per_epoch
        checkpoints.score(step, epoch, result)
        metrics_log.write(step, epoch, "validation", result)


def _test(
    parts: Components, checkpoints: Checkpoints, metrics_log: TensorBoardLog, preemption: Preemption
) -> dict[str, Any]:
    """Returns the test metrics of the last and of the best weights, {"last": ..., "best": ...}, and logs them."""
    like = abstract_variables(parts.model, parts.config.image_size)
    results, tested = {}, {}
    for choice in CHOICES:
        step = checkpoints.step_of(choice)
        if step not in tested:
            step, variables = checkpoints.restore_weights(choice, like, parts.devices)
            result, _ = evaluate_split(parts.eval_step, variables, parts.test, parts.devices, preemption.check)
            tested[step] = {"step": step, "split": parts.config.test_split, **result}
        results[choice] = tested[step]
        accuracies = {name: tested[step][name] for name in metrics.SUMS}
        metrics_log.write(step, step / parts.steps_per_epoch, f"test_{choice}", accuracies)
    return results
