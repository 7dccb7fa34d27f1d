import itertools

import jax
import numpy as np
import pytest

from animesion_jax.data.splits import HELD_OUT, select_examples
from animesion_jax.data.train_data import TrainData
from animesion_jax.errors import InputError
from animesion_jax.training.device_data import on_devices
from tests.data.images import batch_images, decoded_images


def _take(data, count, start=0):
    return list(itertools.islice(data.batches(start), count))


def _assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_decoded_and_encoded_caches_give_the_same_batches(toy_config, dataset):
    toy_config.data.cache = "decoded"
    decoded = TrainData(toy_config, dataset)
    toy_config.data.cache = "encoded"
    encoded = TrainData(toy_config, dataset)
    steps = decoded.steps_per_epoch + 2
    _assert_same(_take(decoded, steps), _take(encoded, steps))


@pytest.mark.parametrize("cache", ["decoded", "encoded", "none"])
def test_batches_from_a_later_step_continue_the_order(toy_config, dataset, cache):
    toy_config.data.cache = cache
    whole = _take(TrainData(toy_config, dataset), 25)
    _assert_same(_take(TrainData(toy_config, dataset), 5, start=20), whole[20:])


@pytest.mark.parametrize("cache", ["encoded", "none"])
def test_next_epoch_begins_before_the_end_of_every_epoch_but_the_last(toy_config, dataset, cache, monkeypatch):
    toy_config.data.cache, toy_config.data.shuffle_buffer = cache, 3 * 64
    begun, begin = [], TrainData._begin
    monkeypatch.setattr(TrainData, "_begin", lambda *args: (begun.append(args[1:]), begin(*args))[1])
    data = TrainData(toy_config, dataset, epochs=2)
    batches, epoch, begun_after = data.batches(), data.steps_per_epoch, []
    for _ in range(2 * epoch):
        batch = next(batches)
        begun_after.append(len(begun))
    assert begun == [(0, 0), (1, 0)]
    assert begun_after == [1] * (epoch - 4) + [2] * (epoch + 4)
    _assert_same([batch], _take(TrainData(toy_config, dataset), 1, start=2 * epoch - 1))


@pytest.mark.parametrize(("cache", "held_out"), [("decoded", 0.125), ("encoded", 0.0), ("none", 0.0), ("none", 0.125)])
def test_two_shards_read_the_halves_of_the_same_batches(toy_config, dataset, cache, held_out):
    toy_config.data.cache, toy_config.held_out = cache, held_out
    whole = _take(TrainData(toy_config, dataset), 3)
    shards = [_take(TrainData(toy_config, dataset, num_shards=2, shard_index=i), 3) for i in (0, 1)]
    for batch, one, other in zip(whole, *shards, strict=True):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([one[name], other[name]]))


@pytest.mark.parametrize("cache", ["decoded", "none"])
def test_epoch_repeats_no_example_and_epochs_differ(toy_config, dataset, cache):
    toy_config.data.cache, toy_config.image_size = cache, 32  # no two images are equal at 40 px
    data = TrainData(toy_config, dataset)
    first, second = (
        [image.tobytes() for batch in _take(data, data.steps_per_epoch, start) for image in batch["image"]]
        for start in (0, data.steps_per_epoch)
    )
    assert data.steps_per_epoch == dataset.num_examples("train") // 64
    assert len(set(first)) == len(first) == data.steps_per_epoch * 64
    assert first != second
    assert set(first) != set(second)  # drops another remainder


def test_train_data_order_depends_on_the_seed(toy_config, dataset):
    toy_config.data.cache = "decoded"
    one = _take(TrainData(toy_config, dataset), 1)[0]["label"]
    toy_config.seed = 1
    assert not np.array_equal(one, _take(TrainData(toy_config, dataset), 1)[0]["label"])


@pytest.mark.parametrize("cache", ["decoded", "encoded", "none"])
def test_held_out_images_are_never_trained_on(held_out_config, dataset, cache):
    config = held_out_config
    config.image_size, config.data.cache = 32, cache
    held = select_examples(config, dataset, HELD_OUT)
    # No two images are equal at 40 px.
    forbidden = set(decoded_images(held, 40))
    data = TrainData(config, dataset)
    assert data.steps_per_epoch == (1411 - 178) // 64 == 19
    epochs = [batch_images(itertools.islice(data.batches(start), 19)) for start in (0, 19)]
    for seen in epochs:
        assert len(set(seen)) == len(seen) == 19 * 64
    assert len(forbidden) == 178 and not forbidden & set(epochs[0] + epochs[1])


def test_on_devices_splits_batches_in_order(toy_config, dataset):
    toy_config.data.cache = "decoded"
    devices = jax.local_devices()
    data = TrainData(toy_config, dataset)
    for host, put in zip(_take(data, 4), itertools.islice(on_devices(data.batches(), devices), 4), strict=True):
        assert put["image"].shape == (4, 16, 24, 24, 3)
        assert [shard.device for shard in put["label"].addressable_shards] == devices
        np.testing.assert_array_equal(np.asarray(put["label"]).ravel(), host["label"])


def test_too_few_read_groups_and_too_large_batches_are_refused(toy_config, dataset):
    with pytest.raises(InputError, match=r"3 processes cannot share .* read groups"):
        TrainData(toy_config, dataset, num_shards=3)
    toy_config.batch_size = 4000
    with pytest.raises(InputError, match="batch_size 4000 is more than the 1411 examples"):
        TrainData(toy_config, dataset)
