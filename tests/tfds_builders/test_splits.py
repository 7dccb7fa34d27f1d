import csv
import statistics
from collections import Counter

import pytest

from tests.conftest import ROOT, SHARED
from tfds_builders.common.splits import assign_splits, split_sizes, train_test_sizes

# Numbers of images of a class in the released val.csv and test.csv, with the number of such classes.
RELEASED = ROOT / "tests" / "tfds_builders" / "dafre_split_sizes.csv"
# Upper bound on the size of a DAF:re class.
MAX_IMAGES = 30_000


def _released() -> Counter:
    with RELEASED.open() as file:
        return Counter({(int(r["validation"]), int(r["test"])): int(r["classes"]) for r in csv.DictReader(file)})


def test_split_sizes_use_ieee_doubles():
    assert [split_sizes(n) for n in (20, 10, 5, 7)] == [(14, 1, 5), (7, 0, 3), (3, 0, 2), (4, 1, 2)]


def test_split_sizes_match_dafre_for_every_class_and_in_total():
    """DAF:re at 20: 463,437 images of 3,263 classes, 322,947 / 46,050 / 94,440, mean 142, median 48, minimum 20.

    The published pair of files lacks the training labels. So the size of a class is known only up to the few sizes
    that give its validation and test counts; totals that depend on it must lie within those bounds.
    """
    sizes_by_pair: dict[tuple[int, int], list[int]] = {}
    for size in range(20, MAX_IMAGES):
        sizes_by_pair.setdefault(split_sizes(size)[1:], []).append(size)
    released = _released()
    assert set(released) <= set(sizes_by_pair)
    assert sum(released.values()) == 3263
    assert sum(pair[0] * classes for pair, classes in released.items()) == 46_050
    assert sum(pair[1] * classes for pair, classes in released.items()) == 94_440
    smallest, largest = (sorted(pick(sizes_by_pair[pair]) for pair in released.elements()) for pick in (min, max))
    assert sum(smallest) <= 463_437 <= sum(largest)
    assert sum(largest) - sum(smallest) < 0.011 * 463_437
    assert sum(split_sizes(n)[0] for n in smallest) <= 322_947 <= sum(split_sizes(n)[0] for n in largest)
    assert smallest[0] == 20
    assert statistics.median(smallest) <= 48 <= statistics.median(largest)
    assert statistics.mean(smallest) <= 142.03 <= statistics.mean(largest)
    assert statistics.stdev(smallest) == pytest.approx(359, abs=1)
    assert all(min(pair) > 0 for pair in released)


@pytest.mark.shared
def test_split_sizes_table_matches_the_released_files():
    counts = []
    for name in ("val", "test"):
        with (SHARED / "labels" / "dafre" / f"{name}.csv").open() as file:
            counts.append(Counter(int(line.split(",")[0]) for line in file))
    assert Counter((counts[0][c], counts[1][c]) for c in counts[1]) == _released()


def test_train_test_sizes_match_moeimouto_for_every_class():
    with (ROOT / "tests" / "tfds_builders" / "moeimouto_split_sizes.csv").open() as file:
        released = [(int(row["train"]), int(row["test"])) for row in csv.DictReader(file)]
    assert [train_test_sizes(train + test) for train, test in released] == [
        (train, 0, test) for train, test in released
    ]
    assert assign_splits([7] * 6, train_test_sizes) == ["train"] * 4 + ["test"] * 2


def test_assign_splits_follows_file_order_within_a_class():
    assert assign_splits([7] * 20 + [3] * 5) == (
        ["train"] * 14 + ["validation"] + ["test"] * 5 + ["train"] * 3 + ["test"] * 2
    )
    mixed = assign_splits([1, 2] * 10)
    assert mixed[::2] == mixed[1::2] == ["train"] * 7 + ["test"] * 3
