"""train(config, workdir): restore, step, log, evaluate, save."""

import logging
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from etils import epath
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from animesion_jax import metrics, optim, run, steps
from animesion_jax.checkpoint import WEIGHTS, Checkpoints, latest_step
from animesion_jax.data import EvalData, TrainData
from animesion_jax.datasets import load_dataset
from animesion_jax.errors import InputError
from animesion_jax.evaluate import evaluate_split
from animesion_jax.journal import Journal
from animesion_jax.models import abstract_variables, init_variables
from animesion_jax.pretrained import load_pretrained

log = logging.getLogger(__name__)


class Window:
    """Metric sums since the last row of the journal, left on the device until they are read."""

    def __init__(self):
        self._sums: list[steps.Sums] = []
        self._start = time.monotonic()

    def add(self, sums: steps.Sums) -> None:
        """Adds the sums of one step."""
        self._sums.append(sums)

    def read(self) -> dict[str, float]:
        """Returns the means since the last call, with images_per_second, and starts anew."""
        pending = jax.device_get(self._sums)
        totals = {name: sum(float(sums[name]) for sums in pending) for name in (*metrics.SUMS, "examples")}
        seconds = time.monotonic() - self._start
        self.__init__()
        return metrics.finalize(totals) | {"images_per_second": totals["examples"] / seconds}

    def pause(self, seconds: float) -> None:
        """Leaves `seconds` (of evaluating, of saving) out of the rate."""
        self._start += seconds


class Trainer:
    """The parts of one training run, put together from its config."""

    def __init__(self, config: ml_collections.ConfigDict, devices: Sequence[jax.Device] | None = None):
        self.config = config
        self.devices = list(devices or jax.local_devices())
        steps.check_batch_size("batch_size", config.batch_size, len(self.devices), config.grad_accumulation)
        steps.check_batch_size("eval_batch_size", config.eval_batch_size, len(self.devices))
        self.dataset = load_dataset(config.dataset, config.data_dir)
        self.model = run.build_model(config, len(self.dataset.class_names), steps.AXIS)
        self.validation = self._eval_data(config.validation_split)
        self.test = self._eval_data(config.test_split)
        self.data = TrainData(config, self.dataset)
        self.steps_per_epoch = self.data.steps_per_epoch
        self.schedule = optim.make_schedule(config, self.steps_per_epoch)
        self.optimizer = optim.make_optimizer(config, self.schedule)
        self.replicated = steps.replicated(self.devices)
        self.train_steps = {
            train_mode: steps.make_train_step(self.model, self.optimizer, config, self.devices, train_mode=train_mode)
            for train_mode in (True, False)
        }
        self.eval_step = steps.make_eval_step(self.model, config, self.devices)

    def _eval_data(self, split: str) -> EvalData | None:
        return EvalData(self.config, self.dataset, split) if split else None

    def initial_state(self) -> steps.TrainState:
        """Returns the state before the first step, on every device; from `config.pretrained` where that is set."""
        config = self.config
        if config.pretrained:
            abstract = abstract_variables(self.model, config.image_size)
            variables = load_pretrained(
                config.pretrained, self.model, abstract, config.keep_head, self.dataset.class_names
            )
        else:
            variables = init_variables(self.model, config.image_size, config.seed)
        return jax.device_put(steps.create_state(variables, self.optimizer, config.trainable), self.replicated)

    def restored_state(self, checkpoints: Checkpoints, step: int) -> steps.TrainState:
        """Returns the state saved at `step`, on every device."""
        variables = abstract_variables(self.model, self.config.image_size)
        like = steps.abstract_state(variables, self.optimizer, self.config.trainable)
        return checkpoints.restore(step, like, self.replicated)

    def fit(self, state: steps.TrainState, checkpoints: Checkpoints, journal: Journal) -> steps.TrainState:
        """Trains from the state's step to the last epoch, evaluating and saving after every epoch."""
        step, total = int(state.step), self.config.epochs * self.steps_per_epoch
        batches = steps.on_devices(self.data.batches(step), self.devices)
        window = Window()
        # The lines of the log are printed above the bar instead of through it.
        with logging_redirect_tqdm(), tqdm(
            total=total * self.config.batch_size,
            initial=step * self.config.batch_size,
            unit="img", unit_scale=True, desc="training", disable=None, dynamic_ncols=True,
        ) as bar:  # fmt: skip
            while step < total:
                state, sums = self.train_steps[self._in_train_mode(step)](state, next(batches))
                step += 1
                window.add(sums)
                bar.update(self.config.batch_size)
                end_of_epoch = step % self.steps_per_epoch == 0
                if end_of_epoch or step % self.config.log_every_steps == 0:
                    row = window.read() | {"learning_rate": float(self.schedule(step - 1))}
                    journal.write(step, step / self.steps_per_epoch, "train", row)
                    bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                if end_of_epoch:
                    started = time.monotonic()
                    self._end_epoch(step, state, checkpoints, journal)
                    window.pause(time.monotonic() - started)
        return state

    def _in_train_mode(self, step: int) -> bool:
        """Whether layers run in training mode in the update after `step` others."""
        last_epoch = self.config.eval_mode_after_epochs
        return not last_epoch or step < last_epoch * self.steps_per_epoch

    def _end_epoch(self, step: int, state: steps.TrainState, checkpoints: Checkpoints, journal: Journal) -> None:
        result = None
        if self.validation:
            result = evaluate_split(self.eval_step, state.variables, self.validation, self.devices)
            journal.write(step, step / self.steps_per_epoch, "validation", result)
        checkpoints.save(step, state, result)

    def test_weights(self, state: steps.TrainState, checkpoints: Checkpoints) -> dict[str, Any]:
        """Returns the test metrics of the last and of the best weights: {"last": ..., "best": ...}."""
        steps_by_weights = {weights: checkpoints.step_of(weights) for weights in WEIGHTS}
        results = {}
        for step in set(steps_by_weights.values()):
            variables = checkpoints.restore(step, state, self.replicated).variables
            results[step] = {
                "step": step,
                "split": self.config.test_split,
                **evaluate_split(self.eval_step, variables, self.test, self.devices),
            }
        return {weights: results[step] for weights, step in steps_by_weights.items()}


def train(
    config: ml_collections.ConfigDict, workdir: str, devices: Sequence[jax.Device] | None = None
) -> dict[str, Any]:
    """Trains a model, or goes on where the last start in the same workdir stopped.

    Args:
      config: see configs/common.py.
      workdir: folder for config.json, classes.json, checkpoints/, metrics.jsonl, tensorboard/, curves.png and
        results.json; local or gs://.
      devices: devices to train on; None takes all local ones.

    Returns:
      The test metrics by weights, {"last": {...}, "best": {...}}, as written to results.json; empty without a
      test split.
    """
    run.check_config(config)
    last = latest_step(workdir)
    if last is not None:
        run.check_same_run(workdir, config)
    trainer = Trainer(config, devices)
    if last is not None and last > config.epochs * trainer.steps_per_epoch:
        raise InputError(
            f"{workdir} has trained {last / trainer.steps_per_epoch:g} epochs, config.epochs is {config.epochs}; "
            "allowed: as many or more, or another --workdir"
        )
    # Before anything is written: weights to start from may be missing or of another model.
    state = trainer.initial_state() if last is None else None
    folder = epath.Path(workdir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    run.save_description(workdir, config, trainer.dataset.class_names)
    checkpoints = Checkpoints(workdir, keep_last=config.keep_last_checkpoints)
    if state is None:
        state = trainer.restored_state(checkpoints, last)
        log.info("resuming %s at step %d", workdir, last)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    log.info(
        "%s (%s parameters) on %s (%d classes), %d epochs of %d steps, %d %s, input cache: %s",
        config.model, f"{parameters:,}", config.dataset, len(trainer.dataset.class_names), config.epochs,
        trainer.steps_per_epoch, len(trainer.devices), trainer.devices[0].platform, trainer.data.cache,
    )  # fmt: skip
    journal = Journal(workdir, last or 0)
    try:
        state = trainer.fit(state, checkpoints, journal)
        checkpoints.wait()
        results = trainer.test_weights(state, checkpoints) if trainer.test else {}
        for weights, result in results.items():
            accuracies = {name: result[name] for name in metrics.SUMS}
            journal.write(result["step"], result["step"] / trainer.steps_per_epoch, f"test_{weights}", accuracies)
        run.write_json(folder / run.RESULTS_FILE, results)
    finally:
        journal.close()
        checkpoints.close()
    return results
