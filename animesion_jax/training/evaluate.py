"""Exact metrics of a model on a split."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from animesion_jax import distributed, metrics
from animesion_jax.data.datasets import Dataset, load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import select_examples
from animesion_jax.files import check_output
from animesion_jax.metrics import ClassResults, count_by_class, summarize, to_csv
from animesion_jax.training import steps
from animesion_jax.training.device_data import on_devices
from animesion_jax.training.state import Sums
from animesion_jax.workdir import run

PER_CLASS_FILE = "per_class.csv"


def evaluate_split(
    eval_step: Callable[..., tuple[Sums, dict[str, jax.Array]]],
    variables: dict[str, Any],
    data: EvalData,
    devices: Sequence[jax.Device],
    before_batch: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Evaluates every example of a split exactly once.

    Args:
      eval_step: from `steps.make_eval_step`.
      variables: the model's, on the devices.
      data: the split.
      devices: of all processes.
      before_batch: called before every batch; may raise to stop.

    Returns:
      {"loss" (mean, nats), "top1_accuracy", "top5_accuracy" (fractions), "examples"}, and "label", "predicted" and
      "rank" of every example, (examples,) int32.
    """
    totals, kept = dict.fromkeys((*metrics.SUMS, "examples"), 0.0), []
    for batch in on_devices(data.batches(), devices):
        before_batch()
        # Read the sums here: one step stays in flight, and the host adds up in float64.
        sums, each = jax.device_get(eval_step(variables, batch))
        for name, value in sums.items():
            totals[name] += float(value)
        mask = each.pop("mask") > 0
        kept.append({name: array[mask] for name, array in each.items()})
    examples = {name: np.concatenate([each[name] for each in kept]) for name in kept[0]}
    return metrics.finalize(totals) | {"examples": int(totals["examples"])}, examples


def evaluate(
    workdir: str,
    split: str = "test",
    weights: str | None = None,
    data_dir: str | None = None,
    *,
    per_class: bool = False,
    output: str | None = None,
) -> dict[str, Any]:
    """Returns the metrics of a run's checkpoint on a split of its data set.

    Args:
      workdir: folder of a training run.
      split: name of the split, or "held_out" if the run held out a part of its training split.
      weights: "best" (by validation top-1) or "last"; None for the default of the run's config.
      data_dir: folder of built data sets; None for the one used in training.
      per_class: also write a CSV with a line per class (`metrics.to_csv`), and add the means over classes.
      output: the CSV, local or gs://; None for per_class.csv in the workdir (for other splits than test,
        SPLIT_per_class.csv).

    Returns:
      {"split", "examples", "loss", "top1_accuracy", "top5_accuracy", "weights", "step"}, with `per_class` also the keys
      of `metrics.summarize` and "per_class", the file.

    Raises:
      InputError: no such run, split or data set, or an output that is a folder.
    """
    saved = run.load(workdir, weights)
    config, devices = saved.config, jax.devices()
    steps.check_batch_size("eval_batch_size", config.eval_batch_size, len(devices))
    dataset = load_dataset(config.dataset, data_dir or config.data_dir)
    run.check_classes(saved.class_names, dataset.class_names, dataset.name)
    # The split is read once.
    config.data.cache = "none"
    data = EvalData(config, dataset, split, **distributed.shard())
    file = _per_class_file(saved, workdir, split, output) if per_class else None
    eval_step = steps.make_eval_step(saved.model, config, devices)
    result, examples = evaluate_split(eval_step, saved.variables, data, devices)
    described = {
        "split": split, "examples": result.pop("examples"), **result, "weights": saved.weights, "step": saved.step,
    }  # fmt: skip
    if not file:
        return described
    by_class = _results_by_class(saved, dataset, examples)
    if distributed.is_first():
        file.write_bytes(to_csv(by_class, saved.class_names).encode())
    return described | summarize(by_class) | {"per_class": str(file)}


def _per_class_file(saved: run.Run, workdir: str, split: str, output: str | None) -> epath.Path:
    """Returns the CSV to write, in a folder that exists; InputError if it is a folder itself."""
    name = PER_CLASS_FILE if split == saved.config.test_split else f"{split}_{PER_CLASS_FILE}"
    file = check_output(output or str(epath.Path(workdir) / name), PER_CLASS_FILE)
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _results_by_class(saved: run.Run, dataset: Dataset, examples: dict[str, np.ndarray]) -> ClassResults:
    trained_on = select_examples(saved.config, dataset, saved.config.train_split).labels()
    train_images = np.bincount(trained_on, minlength=len(saved.class_names))
    return count_by_class(examples["label"], examples["predicted"], examples["rank"], train_images)
