"""The split rules: 0.7 / 0.1 / 0.2 of every class for DAF:re and toyfaces, 0.8 / 0.2 for moeimouto, in file order."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence, Sized

SPLITS = ("train", "validation", "test")
TRAIN_FRACTION = 0.7
VALIDATION_FRACTION = 0.1
MOEIMOUTO_TRAIN_FRACTION = 0.8


def split_sizes(count: int) -> tuple[int, int, int]:
    """Returns how many of a class's `count` images go to train, validation and test.

    The arithmetic is IEEE double on purpose: 0.7 + 0.1 is 0.7999999999999999, so 20 images give
    14 / 1 / 5. This is the rule that the released DAF:re label files follow for all 3,263 classes.
    """
    train_and_validation = int(count * (TRAIN_FRACTION + VALIDATION_FRACTION))
    train = int(count * TRAIN_FRACTION)
    return train, train_and_validation - train, count - train_and_validation


def train_test_sizes(count: int) -> tuple[int, int, int]:
    """Returns how many of a class's `count` images go to train, validation (none) and test in moeimouto.

    The released label files follow this rule for all 173 classes.
    """
    train = int(count * MOEIMOUTO_TRAIN_FRACTION)
    return train, 0, count - train


def keep_frequent(labels: Sequence[int], threshold: int) -> list[int]:
    """Returns, ascending, the labels that occur at least `threshold` times."""
    counts: dict[int, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return sorted(label for label, count in counts.items() if count >= threshold)


def assign_splits(labels: Sequence[Hashable], sizes: Callable[[int], tuple[int, int, int]] = split_sizes) -> list[str]:
    """Returns the split name of every example, given the labels of all in file order and the rule for a class."""
    remaining: dict[Hashable, list[int]] = {}
    for label in labels:
        remaining.setdefault(label, [0, 0, 0])[0] += 1
    for label, (count, _, _) in remaining.items():
        remaining[label] = list(sizes(count))
    assigned = []
    for label in labels:
        quota = remaining[label]
        split = next(i for i, left in enumerate(quota) if left)
        quota[split] -= 1
        assigned.append(SPLITS[split])
    return assigned


def split_tags(tags: Sequence[int], threshold: int, source: str) -> tuple[list[int], dict[str, list[int]]]:
    """Returns the tags that are kept, ascending, and by split the places in `tags` of the images it gets.

    Raises:
      ValueError: no tag is frequent enough, or a split gets no image; `source` says where the images are from.
    """
    kept = keep_frequent(tags, threshold)
    if not kept:
        most = max(Counter(tags).values(), default=0)
        raise ValueError(f"{source}: no class has {threshold} images or more, the largest has {most}; lower threshold")
    wanted = set(kept)
    places = [place for place, tag in enumerate(tags) if tag in wanted]
    by_split: dict[str, list[int]] = {split: [] for split in SPLITS}
    for place, split in zip(places, assign_splits([tags[place] for place in places]), strict=True):
        by_split[split].append(place)
    check_splits(by_split, source)
    return kept, by_split


def check_splits(by_split: Mapping[str, Sized], source: str) -> None:
    """Raises ValueError naming the splits without an image, which TFDS could not write."""
    empty = [split for split, chosen in by_split.items() if not chosen]
    if empty:
        raise ValueError(f"{source}: no image for split {', '.join(empty)}; every split needs at least one")
