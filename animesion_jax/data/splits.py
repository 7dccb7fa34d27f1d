"""The examples of a named split of a config, including the held-out part of the training split."""

from decimal import ROUND_HALF_UP, Decimal

import ml_collections
import numpy as np

from animesion_jax.data.datasets import Dataset, Examples
from animesion_jax.errors import InputError

# Name of the held-out part of config.train_split.
HELD_OUT = "held_out"
# Fixed, not config.seed, so that runs of different seeds are compared on the same images.
HELD_OUT_SEED = 0x0DAF


def check_every_class(counts: np.ndarray, dataset: Dataset, split: str) -> None:
    """Raises InputError unless every class has an example; `counts` is (classes,) numbers of examples."""
    names = dataset.class_names
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        named = ", ".join(f"'{names[class_id]}'" for class_id in absent[:5])
        raise InputError(
            f"split '{split}' of {dataset.name} has no image of {len(absent)} of its {len(names)} classes: {named}"
            f"{', ...' if len(absent) > 5 else ''}; allowed: at least one of every class; build the data set again "
            "with such images, or without these classes"
        )


def select_examples(config: ml_collections.ConfigDict, dataset: Dataset, split: str) -> Examples:
    """Returns the examples of a named split.

    Args:
      config: its train_split and held_out.
      dataset: the data set.
      split: config.train_split for that split without its held-out part, "held_out" for this part, else any split of
        the data set.

    Raises:
      InputError: the split is unknown or empty, or the held-out part is empty.
    """
    if split == HELD_OUT and not config.held_out:
        raise InputError(
            f"nothing is held out of '{config.train_split}' (config.held_out is 0); allowed: "
            f"{', '.join(dataset.builder.info.splits)}, or a run with --config.held_out=0.125 for example"
        )
    if split not in (HELD_OUT, config.train_split) or not config.held_out:
        return _whole_split(config, dataset, split)
    whole = _whole_split(config, dataset, config.train_split)
    mask = hold_out(whole.labels(), config.held_out)
    if not mask.any():
        raise InputError(
            f"config.held_out {config.held_out} holds out no image of {dataset.name} '{config.train_split}', whose "
            f"largest class has {np.bincount(whole.labels()).max()} images; allowed: 0 or a larger part"
        )
    return Examples(dataset, config.train_split, np.flatnonzero(mask if split == HELD_OUT else ~mask))


def _whole_split(config: ml_collections.ConfigDict, dataset: Dataset, split: str) -> Examples:
    splits = dataset.builder.info.splits
    if split not in splits:
        allowed = ", ".join([*splits, *([HELD_OUT] if config.held_out else [])])
        if split == "validation" and not config.held_out:
            allowed += ", or a part of train: --config.held_out=0.125 --config.validation_split=held_out"
        raise InputError(f"{dataset.name} has no split '{split}'; allowed: {allowed}")
    if not splits[split].num_examples:
        raise InputError(f"split '{split}' of {dataset.name} is empty; allowed: a split with examples")
    return dataset.examples(split)


def hold_out(labels: np.ndarray, part: float) -> np.ndarray:
    """Returns the (n,) bool mask of the examples to hold out.

    Holds out m * part images of a class of m, halves rounded up, but at most m - 1. A fixed seed and the class id
    decide which ones.

    Args:
      labels: (n,) class ids in stored order.
      part: fraction from 0 to less than 1.
    """
    mask = np.zeros(len(labels), bool)
    # Use decimals: as doubles, 50 * 0.29 is 14.499999999999998.
    part = Decimal(str(float(part)))
    # Sort once instead of searching for each of possibly thousands of classes.
    by_class = np.argsort(labels, kind="stable")
    class_ids, starts = np.unique(labels[by_class], return_index=True)
    for class_id, members in zip(class_ids, np.split(by_class, starts[1:]), strict=True):
        size = int((len(members) * part).to_integral_value(ROUND_HALF_UP))
        order = np.random.default_rng((HELD_OUT_SEED, class_id)).permutation(len(members))
        mask[members[order[: min(size, len(members) - 1)]]] = True
    return mask


def group_bounds(num_examples: int, num_groups: int) -> list[int]:
    """Returns the num_groups + 1 bounds of contiguous groups of nearly equal size."""
    return [num_examples * group // num_groups for group in range(num_groups + 1)]
