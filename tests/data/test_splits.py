import csv

import numpy as np
import pytest

from animesion_jax.data.splits import HELD_OUT, group_bounds, hold_out, select_examples
from animesion_jax.errors import InputError
from animesion_jax.training.evaluate import evaluate
from animesion_jax.training.train import train
from animesion_jax.workdir.rows import read_rows
from tests.data.images import all_encoded_images

# Training images of toyfaces by class, and an eighth of each, halves rounded up.
TRAIN_SIZES = [196, 170, 148, 128, 112, 98, 84, 74, 64, 56, 49, 42, 37, 32, 28, 24, 21, 18, 16, 14]
HELD_OUT_SIZES = [25, 21, 19, 16, 14, 12, 11, 9, 8, 7, 6, 5, 5, 4, 4, 3, 3, 2, 2, 2]


def test_hold_out_takes_hand_counted_numbers_of_every_class():
    sizes = np.asarray([1, 2, 3, 4, 8, 11, 12, 20, 50])
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(9), sizes))
    for part, expected in [
        (0.125, [0, 0, 0, 1, 1, 1, 2, 3, 6]),  # rounds up half images of 4, 12 and 20
        (0.29, [0, 1, 1, 1, 2, 3, 3, 6, 15]),  # 50 * 0.29 is 14.5, but not as doubles
        (0.99, [0, 1, 2, 3, 7, 10, 11, 19, 49]),  # keeps one image of every class
        (0.0, [0] * 9),
    ]:
        np.testing.assert_array_equal(np.bincount(labels[hold_out(labels, part)], minlength=9), expected)


def test_hold_out_of_a_class_depends_on_its_own_images_only():
    alone = hold_out(np.full(40, 3), 0.25)
    labels = np.random.default_rng(5).permutation(np.repeat([0, 3, 7], [33, 40, 60]))
    np.testing.assert_array_equal(hold_out(labels, 0.25)[labels == 3], alone)
    assert not np.array_equal(hold_out(np.full(40, 4), 0.25), alone)
    assert 0 < np.diff(np.flatnonzero(alone)).max() < 30  # scattered, not a block


def test_training_and_held_out_parts_partition_the_split(held_out_config, dataset):
    kept = select_examples(held_out_config, dataset, "train")
    held = select_examples(held_out_config, dataset, HELD_OUT)
    whole = all_encoded_images(dataset.examples("train"))
    assert len(set(whole)) == len(whole) == 1411
    assert sorted(all_encoded_images(kept) + all_encoded_images(held)) == sorted(whole)
    np.testing.assert_array_equal(np.bincount(held.labels()), HELD_OUT_SIZES)
    np.testing.assert_array_equal(np.bincount(kept.labels()), np.asarray(TRAIN_SIZES) - HELD_OUT_SIZES)
    assert (kept.num_examples, held.num_examples) == (1411 - 178, 178)
    num_bytes = dataset.builder.info.splits["train"].num_bytes
    assert dataset.examples("train").num_bytes == num_bytes
    assert held.num_bytes == num_bytes * 178 // 1411
    assert np.all(np.diff(kept.indices) > 0) and np.all(np.diff(held.indices) > 0)


def test_held_out_part_is_the_same_for_every_seed(held_out_config, dataset):
    one = select_examples(held_out_config, dataset, HELD_OUT).indices
    held_out_config.seed = 7
    np.testing.assert_array_equal(select_examples(held_out_config, dataset, HELD_OUT).indices, one)


def test_unknown_split_lists_held_out_only_if_there_is_one(held_out_config, dataset):
    with pytest.raises(InputError, match=r"no split 'dev'; allowed: train, validation, test, held_out$"):
        select_examples(held_out_config, dataset, "dev")
    held_out_config.held_out = 0.0
    with pytest.raises(InputError, match=r"no split 'dev'; allowed: train, validation, test$"):
        select_examples(held_out_config, dataset, "dev")


@pytest.mark.parametrize(
    ("split", "held_out", "words"),
    [
        (HELD_OUT, 0.0, ["'train'", "held_out is 0", "validation, test", "--config.held_out"]),
        (HELD_OUT, 0.002, ["0.002", "toyfaces 'train'", "196 images"]),
    ],
)
def test_select_examples_refuses_bad_splits_in_one_line(toy_config, dataset, split, held_out, words):
    toy_config.held_out = held_out
    with pytest.raises(InputError) as error:
        select_examples(toy_config, dataset, split)
    message = str(error.value)
    assert all(word in message for word in words) and "\n" not in message, message


def test_group_bounds_cover_all_records_in_nearly_equal_groups():
    bounds = group_bounds(1003, 8)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, 1003) and sizes.max() - sizes.min() == 1


@pytest.mark.slow
def test_training_validates_on_the_held_out_part_and_evaluate_agrees(held_out_config, tmp_path):
    held_out_config.validation_split, held_out_config.epochs = HELD_OUT, 1
    train(held_out_config, str(tmp_path))
    again = evaluate(str(tmp_path), HELD_OUT, per_class=True, output=str(tmp_path / "new" / "classes.csv"))
    (row,) = [row for row in read_rows(str(tmp_path)) if row["split"] == "validation"]
    assert again["examples"] == row["examples"] == 178
    assert again["loss"] == pytest.approx(row["loss"], rel=1e-6)
    with (tmp_path / "new" / "classes.csv").open() as file:
        counts = [(int(row["train_images"]), int(row["test_images"])) for row in csv.DictReader(file)]
    assert counts == [(of - held, held) for of, held in zip(TRAIN_SIZES, HELD_OUT_SIZES, strict=True)]
    assert evaluate(str(tmp_path), "train")["examples"] == 1411 - 178
