import io
import itertools

import jax
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from animesion_jax.data.caches import choose_cache
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.decode import decode_and_resize
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import group_bounds, select_examples
from animesion_jax.data.train_data import TrainData
from animesion_jax.errors import InputError
from animesion_jax.preprocessing import resize
from animesion_jax.training.device_data import on_devices
from animesion_jax.training.steps import check_batch_size
from tests.conftest import SHARED


@pytest.fixture(scope="module")
def dataset(toyfaces_dir):
    return load_dataset("toyfaces", str(toyfaces_dir))


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
def test_a_start_in_the_middle_continues_the_order(toy_config, dataset, cache):
    toy_config.data.cache = cache
    whole = _take(TrainData(toy_config, dataset), 25)
    _assert_same(_take(TrainData(toy_config, dataset), 5, start=20), whole[20:])


@pytest.mark.parametrize("cache", ["encoded", "none"])
def test_the_next_epoch_is_begun_before_the_end_of_an_epoch_but_the_last(toy_config, dataset, cache, monkeypatch):
    toy_config.data.cache, toy_config.data.shuffle_buffer, toy_config.epochs = cache, 3 * 64, 2
    begun, begin = [], TrainData._begin
    monkeypatch.setattr(TrainData, "_begin", lambda *args: (begun.append(args[1:]), begin(*args))[1])
    data = TrainData(toy_config, dataset)
    batches, epoch, begun_after = data.batches(), data.steps_per_epoch, []
    for _ in range(2 * epoch):
        batch = next(batches)
        begun_after.append(len(begun))
    assert begun == [(0, 0), (1, 0)]
    assert begun_after == [1] * (epoch - 4) + [2] * (epoch + 4)
    _assert_same([batch], _take(TrainData(toy_config, dataset), 1, start=2 * epoch - 1))


def test_nothing_is_read_with_autotuning(toy_config, dataset, monkeypatch):
    # Its thread may sleep through the end of an epoch for seconds, too seldom to wait for it here.
    read, as_numpy_iterator = [], tf.data.Dataset.as_numpy_iterator
    monkeypatch.setattr(
        tf.data.Dataset, "as_numpy_iterator", lambda self: (read.append(self.options()), as_numpy_iterator(self))[1]
    )
    for cache in ("decoded", "encoded", "none"):
        toy_config.data.cache = cache
        _take(TrainData(toy_config, dataset), 1)
    next(EvalData(toy_config, dataset, "test").batches())
    toy_config.held_out = 0.5  # of which the labels are read
    select_examples(toy_config, dataset, "train").count_labels(1, 0)
    assert len(read) >= 3 + 1 + 1 + 1
    assert [options.autotune.enabled for options in read] == [False] * len(read)


@pytest.mark.parametrize("cache", ["decoded", "none"])
def test_two_hosts_read_the_halves_of_the_same_batches(toy_config, dataset, cache):
    toy_config.data.cache = cache
    whole = _take(TrainData(toy_config, dataset), 3)
    hosts = [_take(TrainData(toy_config, dataset, num_hosts=2, host=host), 3) for host in (0, 1)]
    for i, batch in enumerate(whole):
        for name in batch:
            np.testing.assert_array_equal(batch[name], np.concatenate([hosts[0][i][name], hosts[1][i][name]]))


@pytest.mark.parametrize("cache", ["decoded", "none"])
def test_an_epoch_visits_no_example_twice_and_epochs_differ(toy_config, dataset, cache):
    toy_config.data.cache, toy_config.image_size = cache, 32  # at 40 px no two faces are alike
    data = TrainData(toy_config, dataset)
    first, second = (
        [image.tobytes() for batch in _take(data, data.steps_per_epoch, start) for image in batch["image"]]
        for start in (0, data.steps_per_epoch)
    )
    assert data.steps_per_epoch == dataset.num_examples("train") // 64
    assert len(set(first)) == len(first) == data.steps_per_epoch * 64
    assert first != second
    assert set(first) != set(second)  # another remainder is dropped


def test_another_seed_gives_another_order(toy_config, dataset):
    toy_config.data.cache = "decoded"
    one = _take(TrainData(toy_config, dataset), 1)[0]["label"]
    toy_config.seed = 1
    assert not np.array_equal(one, _take(TrainData(toy_config, dataset), 1)[0]["label"])


@pytest.mark.parametrize("num_hosts", [1, 3])
def test_evaluation_counts_every_example_once(toy_config, dataset, num_hosts):
    toy_config.eval_batch_size = 96
    hosts = [EvalData(toy_config, dataset, "test", num_hosts=num_hosts, host=h) for h in range(num_hosts)]
    batches = [list(host.batches()) for host in hosts]
    assert len({len(each) for each in batches}) == 1
    labels = np.concatenate([b["label"][b["mask"] > 0] for each in batches for b in each])
    assert {len(b["label"]) for each in batches for b in each} == {96 // num_hosts}
    records = dataset.builder.as_dataset("test").as_numpy_iterator()
    np.testing.assert_array_equal(np.sort(labels), np.sort([record["label"] for record in records]))


def test_batches_arrive_on_every_device_in_order(toy_config, dataset):
    toy_config.data.cache = "decoded"
    devices = jax.local_devices()
    data = TrainData(toy_config, dataset)
    for host, put in zip(_take(data, 4), itertools.islice(on_devices(data.batches(), devices), 4), strict=True):
        assert put["image"].shape == (4, 16, 24, 24, 3)
        assert [shard.device for shard in put["label"].addressable_shards] == devices
        np.testing.assert_array_equal(np.asarray(put["label"]).ravel(), host["label"])


def _jpegs():
    folder = SHARED / "realfaces" / "daf" / "data"
    files = sorted(folder.rglob("*.jpg"))[:60]
    return [file.read_bytes() for file in files]


@pytest.mark.shared
@pytest.mark.parametrize("size", [64, 96, 128, 160])
def test_resize_agrees_with_pillow_on_real_faces(size):
    for jpeg in _jpegs():
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        ours = decode_and_resize(tf.constant(jpeg), size).numpy()
        theirs = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        # predict's resize, which has no TensorFlow
        np.testing.assert_array_equal(resize(image, size), ours)


@pytest.mark.parametrize(("available", "expected"), [(1000, "decoded"), (400, "encoded"), (100, "none")])
def test_auto_cache_takes_what_fits_into_half_of_the_memory(available, expected):
    assert choose_cache("auto", 500, 100, available) == expected


def test_groups_deal_every_record_once():
    bounds = group_bounds(1003, 8)
    sizes = np.diff(bounds)
    assert (bounds[0], bounds[-1]) == (0, 1003) and sizes.max() - sizes.min() == 1


def test_bad_input_is_named(toy_config, dataset):
    cases = [
        (lambda: check_batch_size("batch_size", 66, 4), ["66", "4"]),
        (lambda: choose_cache("ram", 1, 1), ["ram", "decoded"]),
        (lambda: TrainData(toy_config, dataset, num_hosts=3), ["3 hosts", "read_groups"]),
    ]
    for call, words in cases:
        with pytest.raises(InputError) as error:
            call()
        assert all(word in str(error.value) for word in words)
        assert "\n" not in str(error.value)
    toy_config.batch_size = 4000
    with pytest.raises(InputError, match="4000"):
        TrainData(toy_config, dataset)
