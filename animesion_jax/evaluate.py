"""Exact metrics of a model on a split."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections

from animesion_jax import metrics, run, steps
from animesion_jax.data import EvalData
from animesion_jax.datasets import load_dataset


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


def evaluate(workdir: str, split: str, weights: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """Returns the metrics of a run's checkpoint on a split of the data set it was trained on.

    Args:
      workdir: folder of a training run.
      split: name of the split.
      weights: "best" (by validation top-1) or "last"; None for the default of the run's config.
      data_dir: where the data set is built; None takes the one of the training.

    Returns:
      {"split", "examples", "loss", "top1_accuracy", "top5_accuracy", "weights", "step"}.
    """
    saved = run.load(workdir, weights)
    devices = jax.local_devices()
    steps.check_batch_size("eval_batch_size", saved.config.eval_batch_size, len(devices))
    dataset = load_dataset(saved.config.dataset, data_dir or saved.config.data_dir)
    run.check_classes(saved.class_names, dataset.class_names, dataset.name)
    data = EvalData(_streaming(saved.config), dataset, split)
    eval_step = steps.make_eval_step(saved.model, saved.config, devices)
    result = evaluate_split(eval_step, saved.variables, data, devices)
    return {
        "split": split,
        "examples": result.pop("examples"),
        **result,
        "weights": saved.weights,
        "step": saved.step,
    }


def _streaming(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the config without a cache: a split that is read once is not kept."""
    config = config.copy_and_resolve_references()
    config.data.cache = "none"
    return config
