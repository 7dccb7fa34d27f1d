"""Exact metrics of a model on a split."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from etils import epath

from animesion_jax import distributed, metrics
from animesion_jax.data.datasets import Dataset, load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import select_examples
from animesion_jax.errors import InputError
from animesion_jax.metrics import ClassResults, count_by_class, summarize, to_csv
from animesion_jax.training import steps
from animesion_jax.workdir import run

PER_CLASS_FILE = "per_class.csv"


def evaluate_split(
    eval_step: Callable[..., steps.Sums],
    variables: dict[str, Any],
    data: EvalData,
    devices: Sequence[jax.Device],
) -> dict[str, float]:
    """Returns mean loss (nats) and accuracies (fractions) over every example of the split, and "examples"."""
    totals = dict.fromkeys((*metrics.SUMS, "examples"), 0.0)
    for batch in steps.on_devices(data.batches(), devices):
        # Reading the sums here keeps one step in flight and adds up in float64 on the host.
        for name, value in jax.device_get(eval_step(variables, batch)).items():
            totals[name] += float(value)
    return metrics.finalize(totals) | {"examples": int(totals["examples"])}


def classify_split(
    classify_step: Callable[..., tuple[steps.Sums, dict[str, jax.Array]]],
    variables: dict[str, Any],
    data: EvalData,
    devices: Sequence[jax.Device],
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns what `evaluate_split` does, and "label", "predicted" and "rank" of every example, (examples,) int32."""
    kept = []

    def step(variables: dict[str, Any], batch: steps.Batch) -> steps.Sums:
        sums, each = jax.device_get(classify_step(variables, batch))
        mask = each.pop("mask") > 0
        kept.append({name: array[mask] for name, array in each.items()})
        return sums

    result = evaluate_split(step, variables, data, devices)
    return result, {name: np.concatenate([each[name] for each in kept]) for name in kept[0]}


def evaluate(
    workdir: str,
    split: str,
    weights: str | None = None,
    data_dir: str | None = None,
    *,
    per_class: bool = False,
    output: str | None = None,
) -> dict[str, Any]:
    """Returns the metrics of a run's checkpoint on a split of the data set it was trained on.

    Args:
      workdir: folder of a training run.
      split: name of the split, or "held_out" where the run held out a part of its training split.
      weights: "best" (by validation top-1) or "last"; None for the default of the run's config.
      data_dir: where the data set is built; None takes the one of the training.
      per_class: also writes a CSV of every class, see `per_class.to_csv`, and adds the means over classes.
      output: file for it, local or gs://; None takes per_class.csv, or SPLIT_per_class.csv for
        another split than the test split, in the workdir.

    Returns:
      {"split", "examples", "loss", "top1_accuracy", "top5_accuracy", "weights", "step"}, and with per_class also what
      `per_class.summarize` returns and "per_class", the file written.
    """
    saved = run.load(workdir, weights)
    devices = jax.devices()
    steps.check_batch_size("eval_batch_size", saved.config.eval_batch_size, len(devices))
    dataset = load_dataset(saved.config.dataset, data_dir or saved.config.data_dir)
    run.check_classes(saved.class_names, dataset.class_names, dataset.name)
    data = EvalData(_streaming(saved.config), dataset, split, **distributed.shard())
    means = {}
    if per_class:
        # Of the test split unless the name says otherwise.
        name = PER_CLASS_FILE if split == saved.config.test_split else f"{split}_{PER_CLASS_FILE}"
        file = epath.Path(output or epath.Path(workdir) / name).expanduser()
        if file.is_dir():
            raise InputError(f"--output={file} is a folder; allowed: a file, such as {file / PER_CLASS_FILE}")
        file.parent.mkdir(parents=True, exist_ok=True)
        classify_step = steps.make_classify_step(saved.model, saved.config, devices)
        result, examples = classify_split(classify_step, saved.variables, data, devices)
        by_class = _results_by_class(saved, dataset, examples)
        if distributed.is_first():
            file.write_bytes(to_csv(by_class, saved.class_names).encode())
        means = {**summarize(by_class), "per_class": str(file)}
    else:
        eval_step = steps.make_eval_step(saved.model, saved.config, devices)
        result = evaluate_split(eval_step, saved.variables, data, devices)
    return {
        "split": split,
        "examples": result.pop("examples"),
        **result,
        "weights": saved.weights,
        "step": saved.step,
        **means,
    }


def _results_by_class(saved: run.Run, dataset: Dataset, examples: dict[str, np.ndarray]) -> ClassResults:
    trained_on = select_examples(saved.config, dataset, saved.config.train_split).labels()
    train_images = np.bincount(trained_on, minlength=len(saved.class_names))
    return count_by_class(examples["label"], examples["predicted"], examples["rank"], train_images)


def _streaming(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the config without a cache: a split that is read once is not kept."""
    config = config.copy_and_resolve_references()
    config.data.cache = "none"
    return config
