"""Top-k accuracy, masked sums of metrics, and results per class."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Metrics that are summed over examples; `finalize` divides them by the number of examples.
SUMS = ("loss", "top1_accuracy", "top5_accuracy")


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the (batch,) float32 softmax cross-entropy, in nats, of (batch, classes) logits."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]


def label_ranks(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the (batch,) int32 rank of the true class, 0 for the highest logit.

    Ties go to the lower class id, as in argmax and top_k. A NaN logit ranks before the true class, so that a broken
    model counts as wrong.

    Args:
      logits: (batch, classes) float32.
      labels: (batch,) int32 class ids.
    """
    true_logit = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    class_ids = jnp.arange(logits.shape[-1])
    behind = (logits < true_logit) | ((logits == true_logit) & (class_ids >= labels[:, None]))
    return jnp.sum(~behind, axis=-1, dtype=jnp.int32)


def metric_sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array, losses: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Returns sums over the unmasked examples, and their number.

    Args:
      logits: (batch, classes) float32.
      labels: (batch,) int32 class ids.
      mask: (batch,) 1 for an example, 0 for padding; padding contributes nothing, NaN included.
      losses: (batch,) values to sum as "loss"; None for the cross-entropy.

    Returns:
      float32 scalars: "loss", "top1_accuracy", "top5_accuracy" (sums) and "examples".
    """
    ranks = label_ranks(logits, labels)
    values = (cross_entropy(logits, labels) if losses is None else losses, ranks < 1, ranks < 5)
    sums = {name: jnp.sum(jnp.where(mask > 0, value, 0.0)) for name, value in zip(SUMS, values, strict=True)}
    return sums | {"examples": jnp.sum(mask > 0, dtype=jnp.float32)}


def finalize(sums: dict[str, float]) -> dict[str, float]:
    """Returns the means of summed metrics: loss in nats, accuracies as fractions in [0, 1]."""
    return {name: float(sums[name]) / float(sums["examples"]) for name in SUMS}


# Minimum and maximum training images of a class, as in section 4 of "Large-Scale Long-Tailed Recognition in an Open
# World" (arXiv:1904.05160): more than 100, 20 to 100, fewer than 20.
SHOTS = {"many_shot": (101, np.inf), "medium_shot": (20, 100), "few_shot": (0, 19)}
# Columns of per_class.csv.
COLUMNS = (
    "class_id", "class", "train_images", "test_images", "top1_accuracy", "top5_accuracy", "most_confused_with",
    "confusions",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClassResults:
    """Results of an evaluation per class; each array is (classes,), by class id.

    Attributes:
      train_images: int number of training images; -1 if unknown.
      test_images: int number of evaluated images.
      top1_accuracy, top5_accuracy: float fractions of test_images, NaN for a class without any.
      confused_with: int class id of the most frequent wrong prediction, the lowest on ties; -1 without wrong ones.
      confusions: int number of these predictions.
    """

    train_images: np.ndarray
    test_images: np.ndarray
    top1_accuracy: np.ndarray
    top5_accuracy: np.ndarray
    confused_with: np.ndarray
    confusions: np.ndarray


def count_by_class(
    labels: np.ndarray, predicted: np.ndarray, ranks: np.ndarray, train_images: np.ndarray
) -> ClassResults:
    """Returns the results per class of n evaluated examples.

    Args:
      labels: (n,) int true class ids.
      predicted: (n,) int class ids of the highest logits.
      ranks: (n,) int ranks of the true classes, 0 for the highest logit.
      train_images: (classes,) int training images by class id; -1 if unknown.
    """
    num_classes = len(train_images)
    images = np.bincount(labels, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        top1, top5 = (np.bincount(labels[ranks < k], minlength=num_classes) / images for k in (1, 5))
    # Count only the pairs that occur: a full confusion matrix of DAF:re has ten million entries.
    wrong = predicted != labels
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    confused, first = np.unique(pairs[0][order], return_index=True)
    confused_with, confusions = np.full(num_classes, -1), np.zeros(num_classes, int)
    confused_with[confused] = pairs[1][order][first]
    confusions[confused] = counts[order][first]
    return ClassResults(train_images, images, top1, top5, confused_with, confusions)


def summarize(results: ClassResults) -> dict[str, Any]:
    """Returns unweighted means of the classes' top-1 accuracies, without classes that have no test images.

    Returns:
      {"macro_accuracy": over all classes, "many_shot", "medium_shot", "few_shot": {"classes": number of classes,
      "images": number of test images, "top1_accuracy"}}; an accuracy is None without such classes.
    """
    tested = results.test_images > 0
    summary: dict[str, Any] = {"macro_accuracy": mean_or_none(results.top1_accuracy[tested])}
    for name, (minimum, maximum) in SHOTS.items():
        group = tested & (results.train_images >= minimum) & (results.train_images <= maximum)
        summary[name] = {
            "classes": int(group.sum()),
            "images": int(results.test_images[group].sum()),
            "top1_accuracy": mean_or_none(results.top1_accuracy[group]),
        }
    return summary


def mean_or_none(values: np.ndarray) -> float | None:
    """Returns the mean; None without values."""
    return float(values.mean()) if len(values) else None


def to_csv(results: ClassResults, class_names: Sequence[str]) -> str:
    """Returns a CSV with the header `COLUMNS` and a line per class, by class id.

    The number of training images is empty if it is unknown. The accuracies are empty for a class without test images,
    and the last two columns for a class without wrong predictions.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for class_id, name in enumerate(class_names):
        train_images, images = results.train_images[class_id], results.test_images[class_id]
        accuracies = (results.top1_accuracy[class_id], results.top5_accuracy[class_id])
        confused_with = results.confused_with[class_id]
        confusions = (class_names[confused_with], results.confusions[class_id]) if confused_with >= 0 else ("", "")
        counts = ("" if train_images < 0 else train_images, images)
        writer.writerow([class_id, name, *counts, *(accuracies if images else ("", "")), *confusions])
    return text.getvalue()
