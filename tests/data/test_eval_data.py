import numpy as np
import pytest

from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.splits import HELD_OUT, select_examples
from tests.data.images import batch_images, decoded_images


def _shards(config, dataset, split, num_shards):
    return [EvalData(config, dataset, split, num_shards=num_shards, shard_index=i) for i in range(num_shards)]


@pytest.mark.parametrize("num_shards", [1, 3])
def test_every_example_is_evaluated_once(toy_config, dataset, num_shards):
    toy_config.eval_batch_size = 96
    batches = [list(shard.batches()) for shard in _shards(toy_config, dataset, "test", num_shards)]
    assert len({len(each) for each in batches}) == 1
    labels = np.concatenate([b["label"][b["mask"] > 0] for each in batches for b in each])
    assert {len(b["label"]) for each in batches for b in each} == {96 // num_shards}
    records = dataset.builder.as_dataset("test").as_numpy_iterator()
    np.testing.assert_array_equal(np.sort(labels), np.sort([record["label"] for record in records]))


def test_every_held_out_example_is_evaluated_once(held_out_config, dataset):
    held_out_config.image_size = 40
    shards = _shards(held_out_config, dataset, HELD_OUT, 3)
    held = select_examples(held_out_config, dataset, HELD_OUT)
    seen = [image for shard in shards for image in batch_images(shard.batches())]
    assert sorted(seen) == sorted(decoded_images(held, 40))


def test_shard_without_examples_yields_padding(toy_config, dataset):
    toy_config.held_out = 0.008  # two images of 196, one of 170, 148, ... 64, none of 56
    toy_config.eval_batch_size = 12
    shards = _shards(toy_config, dataset, HELD_OUT, 12)
    masks = [[batch["mask"].sum() for batch in shard.batches()] for shard in shards]
    assert np.shape(masks) == (12, 1) and np.sum(masks) == 10
