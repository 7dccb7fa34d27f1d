"""Calibrates a bundle on its run's validation images."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from animesion_jax.bundle import Bundle, extend_bundle, load_bundle
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.errors import InputError, escape
from animesion_jax.inference.batches import apply_to_files
from animesion_jax.inference.calibration import fit
from animesion_jax.inference.forward import apply_to_pixels
from animesion_jax.workdir import run

# Enough for a false accept rate of 0.001. More images would take gigabytes with thousands of classes.
MAX_IMAGES = 5_000
BATCH_SIZE = 64
# Share of accepted unknown images, or of rejected known ones, above which a warning says that the threshold is of
# little use.
MAX_ERROR_RATE = 0.5

log = logging.getLogger("animesion_jax")

# From (batch, S, S, 3) uint8 images to (batch, classes) logits and (batch, features) embeddings.
Forward = Callable[[np.ndarray], tuple[jax.Array, jax.Array]]


def calibrate(
    bundle: str,
    workdir: str,
    output: str | None = None,
    *,
    split: str | None = None,
    data_dir: str | None = None,
    false_accept_rate: float | None = None,
    unknown: Sequence[Path] = (),
) -> tuple[epath.Path, dict[str, Any]]:
    """Writes a bundle with temperature, threshold and similarity scale; returns its path and the calibration.

    Args:
      bundle: file written by export.
      workdir: the run of the bundle; its data set is read.
      output: file to write, local or gs://; None replaces the bundle.
      split: split of the data set that the model was not trained on; None takes config.validation_split.
      data_dir: folder of built data sets; None takes config.data_dir.
      false_accept_rate: between 0 and 1, both excluded; None rejects at most 5 % of the images.
      unknown: images of unknown characters; without any, impostor scores come from the validation images.

    Raises:
      InputError: the bundle is of another run, the data set or split is missing, or no unknown image is readable.
    """
    check_rate(false_accept_rate)
    loaded = load_bundle(bundle)
    config = run.read_config(workdir)
    split = _choose_split(split or config.validation_split, config.train_split, workdir)
    dataset = load_dataset(config.dataset, data_dir or config.data_dir)
    trained = run.read_classes(workdir)
    run.check_classes(trained, loaded.classes, bundle)
    run.check_classes(trained, dataset.class_names, dataset.name)
    config.data.cache, config.fit = "none", loaded.fit
    forward = partial(jax.jit(partial(apply_to_pixels, loaded)), jax.device_put(loaded.variables))
    logits, embeddings, labels = _outputs(forward, EvalData(config, dataset, split).batches())
    if len(labels) < 2:
        raise InputError(f"split '{split}' of {dataset.name} has {len(labels)} image; allowed: 2 or more")
    unknown_logits = _logits_of_files(forward, unknown, loaded) if unknown else None
    source = {"dataset": dataset.name, "split": split}
    calibration = fit(logits, embeddings, labels, false_accept_rate, unknown_logits, source)
    accepted, rejected = calibration.false_accept_rate, calibration.source["false_reject_rate"]
    if false_accept_rate is None and accepted > MAX_ERROR_RATE:
        log.warning(
            "%.3g %% of the images of unknown characters are named; train the model longer, or set --false_accept_rate",
            100 * accepted,
        )
    if rejected > MAX_ERROR_RATE:
        log.warning(
            "at a false accept rate of %.3g %%, %.3g %% of known images are rejected; "
            "set a higher --false_accept_rate than %g", 100 * accepted, 100 * rejected, false_accept_rate,
        )  # fmt: skip
    described = dataclasses.asdict(calibration)
    return extend_bundle(bundle, output or bundle, calibration=described), described


def check_rate(false_accept_rate: float | None) -> None:
    """Raises InputError for a rate that `calibrate` does not take."""
    if false_accept_rate is not None and not 0 < false_accept_rate < 1:
        raise InputError(f"--false_accept_rate is {false_accept_rate}; allowed: above 0 and below 1")


def _choose_split(split: str, train_split: str, workdir: str) -> str:
    """Returns the split; InputError if it is empty or the training split."""
    if not split:
        raise InputError(f"{workdir} was trained without a validation split; name one with --split")
    if split == train_split:
        raise InputError(f"--split={split} is the model's training split; allowed: another split, or held_out")
    return split


def _outputs(forward: Forward, batches: Iterable[dict[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns logits, embeddings and labels of the first `MAX_IMAGES` unmasked examples.

    The first examples are a random sample, because TFDS shuffles before it writes.
    """
    kept: list[tuple[np.ndarray, ...]] = []
    for batch in batches:
        mask = batch["mask"] > 0
        outputs = (*jax.device_get(forward(batch["image"])), batch["label"])
        kept.append(tuple(output[mask] for output in outputs))
        if sum(len(labels) for *_, labels in kept) >= MAX_IMAGES:
            break
    logits, embeddings, labels = (np.concatenate(parts)[:MAX_IMAGES] for parts in zip(*kept, strict=True))
    return logits, embeddings, labels


def _logits_of_files(forward: Forward, files: Sequence[Path], bundle: Bundle) -> np.ndarray:
    """Returns the (n, classes) logits of every k-th file, at most `MAX_IMAGES`; leaves out unreadable files."""
    chosen = files[:: -(-len(files) // MAX_IMAGES)]
    rows = []
    outputs = apply_to_files(lambda images: forward(images)[0], chosen, bundle.image_size, bundle.fit, BATCH_SIZE)
    for file, row in outputs:
        if isinstance(row, InputError):
            log.warning("--unknown: left out %s: %s", escape(str(file)), row)
        else:
            rows.append(row)
    if not rows:
        raise InputError(f"--unknown: none of {len(chosen)} images can be read; allowed: one or more readable images")
    return np.stack(rows)
