"""The parts of a training run, put together from its config, and the loop over its steps."""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from animesion_jax import distributed
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import check_every_class, select_examples
from animesion_jax.data.train_data import TrainData, read_groups, steps_per_epoch
from animesion_jax.errors import Stopped
from animesion_jax.models import abstract_variables, init_variables
from animesion_jax.pretrained import load_pretrained
from animesion_jax.training import losses, optim, steps
from animesion_jax.training.device_data import ResidentData
from animesion_jax.training.evaluate import evaluate_split
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.running_metrics import Window
from animesion_jax.workdir import run
from animesion_jax.workdir.checkpoints import WEIGHTS, Checkpoints, Restored
from animesion_jax.workdir.metrics_log import Journal

log = logging.getLogger(__name__)


class Trainer:
    """The parts of one training run, put together from its config."""

    def __init__(self, config: ml_collections.ConfigDict, devices: Sequence[jax.Device]):
        self.config = config
        self.devices = list(devices)
        steps.check_train_batch(config, len(self.devices))
        steps.check_batch_size("eval_batch_size", config.eval_batch_size, len(self.devices))
        self.dataset = load_dataset(config.dataset, config.data_dir)
        self.model = run.build_model(config, len(self.dataset.class_names), steps.AXIS)
        self.validation = self._eval_data(config.validation_split)
        self.test = self._eval_data(config.test_split)
        self.resident = self._resident_data(read_groups(config, jax.process_count()))
        self.steps_per_epoch = steps_per_epoch(config, self.dataset)
        self.first_stage_steps = config.epochs * self.steps_per_epoch
        self.total_steps = self.first_stage_steps + config.rebalance_epochs * self.steps_per_epoch
        self.schedule = optim.make_schedule(config, self.steps_per_epoch)
        self.optimizer = optim.make_optimizer(config, self.schedule)
        self._class_counts: np.ndarray | None = None
        self.train_steps = self._train_steps()
        self._programs: dict[str, Callable[..., Any]] = {}
        self.eval_step = steps.make_eval_step(self.model, config, self.devices)

    def _train_steps(self) -> dict[str, Callable[..., tuple[steps.TrainState, steps.Sums]]]:
        """Returns the training steps by when in a run they are taken; compiled when first taken."""
        config = self.config
        counts = self.count_classes() if losses.needs_counts(config) else None
        first = losses.training_objective(config, counts)
        make = functools.partial(steps.make_train_step, self.model, self.optimizer, config, self.devices)
        made = {"training": make(objective=first), "evaluation mode": make(objective=first, train_mode=False)}
        if config.rebalance_epochs:
            made["rebalancing"] = make(objective=losses.balanced_objective(counts), rebalancing=True)
        return made

    def count_classes(self) -> np.ndarray:
        """The (classes,) numbers of images that are trained on; InputError for a class without any."""
        if self._class_counts is None:
            examples = select_examples(self.config, self.dataset, self.config.train_split)
            counts = distributed.total(examples.count_labels(**distributed.shard()))
            check_every_class(counts, self.dataset, examples.split)
            self._class_counts = counts
        return self._class_counts

    def _resident_data(self, num_groups: int) -> ResidentData | None:
        """Returns what will hold the training split on the devices, still empty, where the config wants it there."""
        config = self.config
        if config.data.cache != "device":
            return None
        examples = select_examples(config, self.dataset, config.train_split).num_examples
        side = config.image_size + config.crop_margin
        return ResidentData(self.devices, num_groups // jax.process_count(), math.ceil(examples / num_groups), side)

    def _eval_data(self, split: str) -> EvalData | None:
        return EvalData(self.config, self.dataset, split, **distributed.shard()) if split else None

    def read_data(self, streamed: bool | None) -> None:
        """Opens the training split and fills its cache; `streamed` as in `data.choose_cache`."""
        self.data = TrainData(self.config, self.dataset, **distributed.shard(), streamed=streamed)
        if distributed.any_process(self.data.streamed) and not self.data.streamed:
            # The memory of one host decides the order for all.
            self.data = TrainData(self.config, self.dataset, **distributed.shard(), streamed=True)
        if streamed is not None and streamed != self.data.streamed:
            log.warning(
                "config.data.cache is '%s' now: from here on the examples come in another order than without the break",
                self.config.data.cache,
            )
        self.data.fill()
        if self.resident:
            self.resident.fill(self.data.decoded_groups())

    def batches(self, start_step: int) -> Iterator[steps.Batch]:
        """Yields what the training steps take from `start_step` to the end of its epoch."""
        epoch, skipped = divmod(start_step, self.steps_per_epoch)
        if self.resident:
            return self.resident.epoch(self.data.orders(epoch), epoch * self.steps_per_epoch, skipped)
        # An epoch at a time: its last update does not wait for the next one's shuffle buffer to fill.
        return steps.on_devices(self.data.batches(start_step, epochs=1), self.devices)

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
        state = steps.create_state(variables, self.optimizer, config.trainable, averaged=config.ema_decay > 0)
        return jax.device_put(state, distributed.replicated(distributed.local_devices(self.devices)))

    def abstract_state(self) -> steps.TrainState:
        """Returns the shapes and dtypes of the state."""
        config = self.config
        variables = abstract_variables(self.model, config.image_size)
        return steps.abstract_state(variables, self.optimizer, config.trainable, averaged=config.ema_decay > 0)

    def fit(self, start: Restored, checkpoints: Checkpoints, journal: Journal, preemption: Preemption) -> None:
        """Trains to the last epoch: saves, and then evaluates, after every epoch; saves every so many steps too.

        Raises:
          NonFinite: a loss, a gradient or an update is not finite; nothing was saved since.
          Stopped: the process was told to stop, and all is saved.
        """
        config, step, state = self.config, start.step, start.state
        window = Window(start.progress.get("totals"))
        if step and step % self.steps_per_epoch == 0:
            self._validate(step, state, checkpoints, journal, preemption)
        batches = iter(())
        # The lines of the log are printed above the bar instead of through it.
        with logging_redirect_tqdm(), tqdm(
            total=self.total_steps * config.batch_size,
            initial=step * config.batch_size,
            unit="img", unit_scale=True, desc="training", dynamic_ncols=True,
            disable=None if distributed.is_first() else True,
        ) as bar:  # fmt: skip
            while step < self.total_steps:
                if step == start.step or step % self.steps_per_epoch == 0:
                    batches = self.batches(step)
                batch = next(batches)
                state, sums = self._compiled(self._kind_of(step), state, batch)(state, batch)
                preemption.unsaved = True
                step += 1
                window.add(step, sums)
                bar.update(config.batch_size)
                end_of_epoch = step % self.steps_per_epoch == 0
                if end_of_epoch or step % config.log_every_steps == 0:
                    row = window.read() | {"learning_rate": float(self.schedule(step - 1))}
                    journal.write(step, step / self.steps_per_epoch, "train", row)
                    bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)
                started = time.monotonic()
                stop = preemption.requested()
                every = config.checkpoint_every_steps
                if stop or end_of_epoch or (every and step % every == 0):
                    checkpoints.save(step, state, self._progress(window))
                    preemption.unsaved = False
                if stop:
                    checkpoints.wait()
                    raise Stopped(f"stopped by SIGTERM and saved at step {step} of {self.total_steps}")
                if end_of_epoch:
                    self._validate(step, state, checkpoints, journal, preemption)
                window.pause(time.monotonic() - started)

    def _compiled(self, kind: str, state: steps.TrainState, batch: steps.Batch) -> Callable[..., Any]:
        """Returns a training step as a program, which is compiled when it is first asked for, and says so."""
        if jax.process_count() > 1:
            # Compiled ahead, pmap's program takes arrays of all processes, as it does not when it is called.
            return self.train_steps[kind]
        if kind not in self._programs:
            log.info("compiling the training step (%s)", kind)
            started = time.monotonic()
            self._programs[kind] = self.train_steps[kind].lower(state, batch).compile()
            log.info("compiled in %.1f s", time.monotonic() - started)
        return self._programs[kind]

    def _progress(self, window: Window) -> dict[str, Any]:
        return {"totals": window.totals(), "streamed": self.data.streamed, "examples": self.data.num_examples}

    def _kind_of(self, step: int) -> str:
        """Returns which of the training steps makes the update after `step` others."""
        last_epoch = self.config.eval_mode_after_epochs
        if step >= self.first_stage_steps:
            return "rebalancing"
        return "evaluation mode" if last_epoch and step >= last_epoch * self.steps_per_epoch else "training"

    def _validate(
        self, step: int, state: steps.TrainState, checkpoints: Checkpoints, journal: Journal, preemption: Preemption
    ) -> None:
        """Evaluates the weights of a checkpoint unless that was done before a break."""
        if self.validation and not distributed.any_process(distributed.is_first() and journal.has(step, "validation")):
            result = self._evaluate(state.evaluated, self.validation, preemption)
            epoch = step / self.steps_per_epoch
            checkpoints.score(step, epoch, result)
            journal.write(step, epoch, "validation", result)

    def _evaluate(self, variables: dict[str, Any], data: EvalData, preemption: Preemption) -> dict[str, float]:
        def eval_step(variables: dict[str, Any], batch: steps.Batch) -> steps.Sums:
            # The weights are saved: no need to see it to its end.
            preemption.check()
            return self.eval_step(variables, batch)

        return evaluate_split(eval_step, variables, data, self.devices)

    def test_weights(self, checkpoints: Checkpoints, preemption: Preemption) -> dict[str, Any]:
        """Returns the test metrics of the last and of the best weights: {"last": ..., "best": ...}."""
        results = {}
        for weights in WEIGHTS:
            tested = {result["step"]: result for result in results.values()}
            step = checkpoints.step_of(weights)
            if step not in tested:
                restored = checkpoints.restore_weights(weights, self.abstract_state(), self.devices)
                step = restored.step
                metrics_of = self._evaluate(restored.state.evaluated, self.test, preemption)
                tested[step] = {"step": step, "split": self.config.test_split, **metrics_of}
            results[weights] = tested[step]
        return results
