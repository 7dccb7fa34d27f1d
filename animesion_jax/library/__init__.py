"""From a config to a bundle in Python. The commands `train` and `export` do the same."""

import copy
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
from etils import epath

from animesion_jax.errors import InputError, command
from animesion_jax.export import run_to_bundle
from animesion_jax.export.calibrate import calibrate, check_rate
from animesion_jax.library.folder import build_folder
from animesion_jax.training.preemption import Preemption
from animesion_jax.training.train import train as train_on_dataset
from animesion_jax.workdir.lock import check_path

log = logging.getLogger(__name__)


def train(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike,
    devices: Sequence[jax.Device] | None = None,
    *,
    accept_changes: bool = False,
    preemption: Preemption | None = None,
) -> dict[str, Any]:
    """Trains a model, or resumes the run in the workdir; first builds the data set of config.folder, if it is set.

    Ctrl+C, the interrupt of a notebook or a kill leaves a run that the same call resumes.

    Args:
      config: such as `animesion_jax.configs.folder.get_config("resnet18")`; it is not changed.
      workdir: folder to write; local or gs://.
      devices: devices to train on; None takes all.
      accept_changes: resume even if the config or the images of config.folder differ from those of the workdir.
      preemption: tells when to save and stop; None for never.

    Returns:
      The test metrics by weights, {"last": {...}, "best": {...}}, each with "loss" (mean, nats), "top1_accuracy" and
      "top5_accuracy" (fractions), "examples", "step" and "split"; empty without a test split.

    Raises:
      InputError: an argument is invalid, the folder cannot be trained on, the workdir cannot be written to or another
        training runs in it, or the loss is not finite.
      Stopped: `preemption` requested a stop; everything is saved.
    """
    if "grid" in config:
        raise InputError(f"the config has a grid of runs; train them with: {command('sweep')} ...")
    workdir = os.fspath(workdir)
    check_path(workdir)
    if config.folder:
        config = copy.deepcopy(config)
        build_folder(config, workdir, accept_changes=accept_changes)
    return train_on_dataset(config, workdir, devices, accept_changes=accept_changes, preemption=preemption)


def export_bundle(
    workdir: str | os.PathLike,
    output: str | os.PathLike,
    weights: str | None = None,
    *,
    false_accept_rate: float | None = None,
    unknown: Sequence[Path] = (),
) -> epath.Path:
    """Writes a run's model as a bundle, which `load` opens, and returns its path.

    The bundle is calibrated on the validation split, so that it can answer "unknown". Without that split it is not, and
    a warning says why.

    Args:
      workdir: folder of a training run; local or gs://.
      output: file to write; local or gs://.
      weights: "best" (by validation top-1) or "last"; None takes config.default_weights.
      false_accept_rate: share of the images of unknown characters that may be named, between 0 and 1; None takes the
        share at the highest threshold that calls at most 5 % of the validation images unknown.
      unknown: images of characters that the model does not know, to set the threshold, such as
        `find_images(["others"])`; without any, each validation image stands in for an unknown character.

    Raises:
      InputError: no such run, an invalid rate, or `output` is a folder.
    """
    check_rate(false_accept_rate)
    workdir, output = os.fspath(workdir), os.fspath(output)
    path = run_to_bundle.export(workdir, output, weights)
    try:
        calibrate(output, workdir, false_accept_rate=false_accept_rate, unknown=unknown)
    except InputError as error:
        log.warning("%s is not calibrated, so it names every image (%s)", output, error)
    return path
