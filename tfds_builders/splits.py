"""The split rule of DAF:re, which toyfaces shares: 0.7 / 0.1 / 0.2 of every class, in file order."""

from collections.abc import Hashable, Sequence

SPLITS = ("train", "validation", "test")
TRAIN_FRACTION = 0.7
VALIDATION_FRACTION = 0.1


def split_sizes(count: int) -> tuple[int, int, int]:
    """Returns how many of a class's `count` images go to train, validation and test.

    The arithmetic is IEEE double on purpose: 0.7 + 0.1 is 0.7999999999999999, so 20 images give
    14 / 1 / 5. This is the rule that the released DAF:re label files follow for all 3,263 classes.
    """
    train_and_validation = int(count * (TRAIN_FRACTION + VALIDATION_FRACTION))
    train = int(count * TRAIN_FRACTION)
    return train, train_and_validation - train, count - train_and_validation


def keep_frequent(labels: Sequence[int], threshold: int) -> list[int]:
    """Returns, ascending, the labels that occur at least `threshold` times."""
    counts: dict[int, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return sorted(label for label, count in counts.items() if count >= threshold)


def assign_splits(labels: Sequence[Hashable]) -> list[str]:
    """Returns the split name of every example, given the labels of all examples in file order."""
    remaining: dict[Hashable, list[int]] = {}
    for label in labels:
        remaining.setdefault(label, [0, 0, 0])[0] += 1
    for label, (count, _, _) in remaining.items():
        remaining[label] = list(split_sizes(count))
    assigned = []
    for label in labels:
        quota = remaining[label]
        split = next(i for i, left in enumerate(quota) if left)
        quota[split] -= 1
        assigned.append(SPLITS[split])
    return assigned
