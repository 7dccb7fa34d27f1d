"""The parts of a training run, made from its config before anything is written."""

import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from animesion_jax import distributed
from animesion_jax.config import resolve, stage_configs
from animesion_jax.data.datasets import Dataset, load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import check_every_class, select_examples
from animesion_jax.data.train_data import TrainData, read_groups, steps_per_epoch
from animesion_jax.errors import InputError
from animesion_jax.models import HEAD, abstract_variables, family_of, init_variables
from animesion_jax.pretrained import load_with_origin, sources
from animesion_jax.training.device_data import ResidentData, check_fits, on_devices
from animesion_jax.training.stages import Stage, make_stages, stage_after
from animesion_jax.training.state import Batch
from animesion_jax.training.steps import check_batch_size, make_eval_step
from animesion_jax.workdir.run import build_model

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Components:
    """The parts of a run.

    Attributes:
      config: no field is null.
      devices: of all processes.
      dataset: the training data.
      model: the linen module.
      stages: in the order of training.
      steps_per_epoch: of the training split.
      count_classes: returns the (classes,) number of training images by class id.
      validation, test: the splits to evaluate; None for none.
      eval_step: the program that evaluates a batch.
    """

    config: ml_collections.ConfigDict
    devices: Sequence[jax.Device]
    dataset: Dataset
    model: nn.Module
    stages: tuple[Stage, ...]
    steps_per_epoch: int
    count_classes: Callable[[], np.ndarray]
    validation: EvalData | None
    test: EvalData | None
    eval_step: Callable[..., Any]

    @property
    def total_steps(self) -> int:
        """Number of updates of the whole run."""
        return self.stages[-1].last_step

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""
        return self.total_steps // self.steps_per_epoch

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images of the training, validation and test splits, by name."""
        evaluated = {self.config.validation_split: self.validation, self.config.test_split: self.test}
        counts = {split: data.num_examples for split, data in evaluated.items() if data}
        return {self.config.train_split: int(self.count_classes().sum())} | counts

    def initial_variables(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the variables before the first update, those of `config.pretrained` or random ones, and their origin.

        The origin is that of `load_with_origin`; empty for random variables.
        """
        config = self.config
        if not config.pretrained:
            return init_variables(self.model, config.image_size, config.seed), {}
        sources.check_model(config.pretrained, config.model)
        variables = abstract_variables(self.model, config.image_size)
        # Initialise a new classifier as without pretrained weights. XLA removes the other variables.
        make_head = jax.jit(lambda: init_variables(self.model, config.image_size, config.seed)["params"][HEAD])
        variables["params"][HEAD] = make_head()
        return load_with_origin(
            config.pretrained, self.model, variables, config.keep_head, self.dataset.class_names,
            {name: config[name] for name in ("mean", "std", "fit")},
        )  # fmt: skip

    def abstract_items(self, step: int) -> dict[str, Any]:
        """Returns shapes and dtypes of the items of the checkpoint at `step`, which the stage before it saved."""
        stage = stage_after(self.stages, max(step - 1, 0))
        variables = abstract_variables(self.model, self.config.image_size)
        return jax.eval_shape(lambda variables: stage.create_state(variables).items, variables)


def make_components(config: ml_collections.ConfigDict, devices: Sequence[jax.Device]) -> Components:
    """Returns the parts of a run.

    Raises:
      InputError: the config, the data set and the devices do not fit together.
    """
    family = family_of(config.model)
    configs, config = stage_configs(config, family), resolve(config, family)
    check_batch_size("eval_batch_size", config.eval_batch_size, len(devices))
    dataset = load_dataset(config.dataset, config.data_dir)
    model = build_model(config, len(dataset.class_names), distributed.AXIS)
    steps = steps_per_epoch(config, dataset)
    if config.data.cache == "device":
        num_examples = select_examples(config, dataset, config.train_split).num_examples
        check_fits(devices, *_device_layout(config, num_examples))
    count_classes = functools.cache(functools.partial(_count_classes, config, dataset))
    validation, test = (
        EvalData(config, dataset, split, **distributed.shard()) if split else None
        for split in (config.validation_split, config.test_split)
    )
    return Components(
        config, devices, dataset, model, make_stages(configs, model, devices, steps, count_classes), steps,
        count_classes, validation, test, make_eval_step(model, config, devices),
    )  # fmt: skip


def _count_classes(config: ml_collections.ConfigDict, dataset: Dataset) -> np.ndarray:
    """Returns the (classes,) number of training images by class id; InputError for a class without images."""
    examples = select_examples(config, dataset, config.train_split)
    counts = distributed.total(examples.count_labels(**distributed.shard()))
    check_every_class(counts, dataset, examples.split)
    return counts


def _device_layout(config: ml_collections.ConfigDict, num_examples: int) -> tuple[int, int, int]:
    """Returns this process's number of groups, the size of the largest, and the side of the images in pixels."""
    num_groups = read_groups(config, jax.process_count())
    side = config.image_size + config.crop_margin
    return num_groups // jax.process_count(), math.ceil(num_examples / num_groups), side


class TrainBatches:
    """The training split as batches on the devices, epoch by epoch.

    Attributes:
      data: the split in host memory.
    """

    def __init__(self, components: Components, streamed: bool | None):
        """Opens the split and fills its cache; `streamed` as in `caches.choose_cache`."""
        self._devices, self._steps_per_epoch = components.devices, components.steps_per_epoch
        config, dataset = components.config, components.dataset
        epochs = components.epochs
        self.data = TrainData(config, dataset, epochs=epochs, streamed=streamed, **distributed.shard())
        if distributed.any_process(self.data.streamed) and not self.data.streamed:
            # All processes need the same order, and the memory of one does not suffice for a cache.
            self.data = TrainData(config, dataset, epochs=epochs, streamed=True, **distributed.shard())
        self.data.fill()
        self._resident = None
        if config.data.cache == "device":
            layout = _device_layout(config, self.data.num_examples)
            self._resident = ResidentData(self._devices, *layout, self.data.decoded_groups())

    def epoch_from(self, step: int) -> Iterator[Batch]:
        """Yields the batches of the training steps from `step` to the end of its epoch."""
        epoch, skipped = divmod(step, self._steps_per_epoch)
        if self._resident:
            return self._resident.epoch(self.data.orders(epoch), epoch * self._steps_per_epoch, skipped)
        # One epoch at a time: its last update need not wait for the shuffle buffer of the next one.
        return on_devices(self.data.batches(step, epochs=1), self._devices)

    def check_same_examples(self, progress: dict[str, Any], workdir: str, accept_changes: bool) -> None:
        """Raises InputError if the split has another size than before the interruption; logs a changed order.

        Args:
          progress: the JSON of the checkpoint.
          workdir: of the run, for the message.
          accept_changes: whether another size is accepted.
        """
        data, before = self.data, progress["examples"]
        if before != data.num_examples and not accept_changes:
            raise InputError(
                f"'{data.config.train_split}' of {data.config.dataset} has {data.num_examples} examples, {workdir} was "
                f"trained on {before}; allowed: the same data, another --workdir, or --accept_changes"
            )
        if data.streamed != progress["streamed"]:
            log.warning(
                "config.data.cache is now '%s': the examples come in another order than in an uninterrupted run",
                data.config.data.cache,
            )
