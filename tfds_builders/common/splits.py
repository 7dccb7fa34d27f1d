"""Split rules per class, in file order: 0.7 / 0.1 / 0.2 for DAF:re and toyfaces, 0.8 / 0.2 for moeimouto."""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence, Sized

from animesion_jax.errors import InputError

SPLITS = ("train", "validation", "test")
TRAIN_FRACTION = 0.7
VALIDATION_FRACTION = 0.1
MOEIMOUTO_TRAIN_FRACTION = 0.8


def split_sizes(count: int) -> tuple[int, int, int]:
    """Returns the sizes of train, validation and test for a class of `count` images.

    Uses IEEE doubles as DAF:re did: 0.7 + 0.1 is 0.7999999999999999, so 20 images give 14 / 1 / 5. The released
    label files follow this rule for all 3,263 classes.
    """
    train_and_validation = int(count * (TRAIN_FRACTION + VALIDATION_FRACTION))
    train = int(count * TRAIN_FRACTION)
    return train, train_and_validation - train, count - train_and_validation


def train_test_sizes(count: int) -> tuple[int, int, int]:
    """Returns moeimouto's sizes of train, validation (0) and test for a class of `count` images.

    The released label files follow this rule for all 173 classes.
    """
    train = int(count * MOEIMOUTO_TRAIN_FRACTION)
    return train, 0, count - train


def assign_splits(labels: Sequence[Hashable], sizes: Callable[[int], tuple[int, int, int]] = split_sizes) -> list[str]:
    """Returns the split name of every example.

    Args:
      labels: class of every example, in file order.
      sizes: rule from the size of a class to the sizes of its splits.
    """
    remaining = {
        label: itertools.chain.from_iterable(map(itertools.repeat, SPLITS, sizes(count)))
        for label, count in Counter(labels).items()
    }
    return [next(remaining[label]) for label in labels]


def split_tags(tags: Sequence[int], threshold: int, source: str) -> tuple[list[int], dict[str, list[int]]]:
    """Returns the frequent tags in ascending order, and indices into `tags` by split.

    Args:
      tags: tag of every image, in file order.
      threshold: fewest images of a tag that is kept.
      source: origin of the images, for errors.

    Raises:
      InputError: no tag is frequent enough, or a split gets no image.
    """
    counts = Counter(tags)
    kept = sorted(tag for tag, count in counts.items() if count >= threshold)
    if not kept:
        most = max(counts.values(), default=0)
        raise InputError(f"{source}: no class has {threshold} images or more, the largest has {most}; lower threshold")
    indices = [index for index, tag in enumerate(tags) if counts[tag] >= threshold]
    by_split: dict[str, list[int]] = {split: [] for split in SPLITS}
    for index, split in zip(indices, assign_splits([tags[index] for index in indices]), strict=True):
        by_split[split].append(index)
    check_splits(by_split, source)
    return kept, by_split


def check_splits(by_split: Mapping[str, Sized], source: str) -> None:
    """Raises InputError if a split has no image; TFDS cannot write an empty split."""
    empty = [split for split, chosen in by_split.items() if not chosen]
    if empty:
        raise InputError(f"{source}: no image for split {', '.join(empty)}; every split needs at least one")
