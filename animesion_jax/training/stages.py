"""The stages of a run: the steps, loss, schedule, optimizer and state of each."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
import optax

from animesion_jax import distributed
from animesion_jax.training.losses import Loss, make_loss, needs_counts
from animesion_jax.training.optim import make_optimizer, make_schedule
from animesion_jax.training.state import Batch, Sums, TrainState, create_state
from animesion_jax.training.steps import check_train_batch, make_train_step

log = logging.getLogger(__name__)

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Sums]]


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of a run; steps count from the start of the run.

    Attributes:
      config: the stage's; no field is null.
      model: the linen module.
      devices: of all processes.
      loss: the loss that its updates minimise.
      steps_per_epoch: of the training split.
      first_step, last_step: number of updates before the stage, and at its end.
    """

    config: ml_collections.ConfigDict
    model: nn.Module
    devices: Sequence[jax.Device]
    loss: Loss
    steps_per_epoch: int
    first_step: int
    last_step: int
    _programs: dict[bool, TrainStep] = field(default_factory=dict, init=False)

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate by the stage's own step."""
        return make_schedule(self.config, self.steps_per_epoch)

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer."""
        return make_optimizer(self.config, self.schedule)

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of the update after `step` others."""
        return float(self.schedule(step - self.first_step))

    def create_state(self, variables: dict[str, Any]) -> TrainState:
        """Returns the state before the stage's first update."""
        config = self.config
        return create_state(
            variables, self.optimizer, config.trainable, averaged=config.ema_decay > 0, step=self.first_step
        )

    def begin(self, variables: dict[str, Any]) -> TrainState:
        """Returns `create_state` on every local device, where the training step leaves its states.

        With a state in another place, the second step would compile again.
        """
        devices = distributed.local_devices(self.devices)
        return jax.device_put(self.create_state(variables), distributed.replicated(devices))

    def train_step(self, step: int) -> TrainStep:
        """Returns the program of the update after `step` others; its first call compiles it."""
        eval_mode_after = self.config.eval_mode_after_epochs
        train_mode = not eval_mode_after or step < eval_mode_after * self.steps_per_epoch
        if train_mode not in self._programs:
            program = make_train_step(
                self.model, self.optimizer, self.config, self.loss, self.devices,
                train_mode=train_mode, first_step=self.first_step,
            )  # fmt: skip
            self._programs[train_mode] = _announcing(program, "training" if train_mode else "evaluation mode")
        return self._programs[train_mode]


def _announcing(train_step: TrainStep, mode: str) -> TrainStep:
    """Returns a training step that logs how long its first call takes, which compiles it."""
    compiled = False

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        nonlocal compiled
        if compiled:
            return train_step(state, batch)
        log.info("compiling the training step (%s)", mode)
        started = time.monotonic()
        result = train_step(state, batch)
        log.info("compiled in %.1f s", time.monotonic() - started)
        compiled = True
        return result

    return step


def make_stages(
    configs: Sequence[ml_collections.ConfigDict],
    model: nn.Module,
    devices: Sequence[jax.Device],
    steps_per_epoch: int,
    count_classes: Callable[[], np.ndarray],
) -> tuple[Stage, ...]:
    """Returns the stages of a run, in the order of training.

    Args:
      configs: from `config.stage_configs`.
      model: from `create_model`.
      devices: of all processes.
      steps_per_epoch: of the training split.
      count_classes: returns the (classes,) number of training images by class id; called if a loss needs it.
    """
    stages, first_step = [], 0
    for config in configs:
        check_train_batch(config, len(devices))
        loss = make_loss(config, count_classes() if needs_counts(config) else None)
        last_step = first_step + config.epochs * steps_per_epoch
        stages.append(Stage(config, model, devices, loss, steps_per_epoch, first_step, last_step))
        first_step = last_step
    return tuple(stages)


def stage_after(stages: Sequence[Stage], step: int) -> Stage:
    """Returns the stage of the update after `step` others; the last one after the end of the run."""
    return next((stage for stage in stages if step < stage.last_step), stages[-1])
