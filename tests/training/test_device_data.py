"""A split that stays on the devices against the host's batches."""

import math
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from animesion_jax.distributed import AXIS
from animesion_jax.errors import InputError
from animesion_jax.training.device_data import ResidentData, check_fits, take
from animesion_jax.training.train import train
from animesion_jax.workdir.rows import read_rows
from animesion_jax.workdir.run import read_config


@pytest.fixture
def groups():
    """Up to five images of 7 px per group: rows that end within a word, and groups of two sizes."""
    draw = np.random.default_rng(3)
    return [
        (draw.integers(0, 256, (size, 7, 7, 3), np.uint8), draw.integers(0, 99, size).astype(np.int32))
        for size in (5, 4, 5, 4)
    ]


@pytest.mark.parametrize("num_devices", [1, 4])
def test_take_gathers_the_images_of_a_step(groups, num_devices):
    devices = jax.local_devices()[:num_devices]
    resident = ResidentData(devices, 4, 5, 7, iter(groups))
    orders = np.stack(
        [[np.random.default_rng((step, group)).permutation(4)[:2] for group in range(4)] for step in range(2)]
    )
    gather = jax.pmap(take, AXIS, in_axes=(0, None), devices=devices)
    batches = list(resident.epoch(orders, 10, 0))
    assert len(batches) == 2
    for step, batch in enumerate(batches):
        taken = gather(batch, jnp.int32(10 + step))
        for name, part in (("image", 0), ("label", 1)):
            expected = np.concatenate([groups[group][part][orders[step, group]] for group in range(4)])
            assert taken[name].dtype == expected.dtype
            np.testing.assert_array_equal(taken[name].reshape(expected.shape), expected)
        assert taken["mask"].shape == (num_devices, 8 // num_devices) and (taken["mask"] == 1).all()
    assert len(list(resident.epoch(orders, 10, 1))) == 1


@pytest.mark.slow
def test_device_cache_trains_like_the_decoded_cache(trained, tmp_path):
    ends = {}
    for cache in ("decoded", "device"):
        workdir = shutil.copytree(trained[0], tmp_path / cache)
        config = read_config(str(workdir))
        config.epochs, config.data.cache = 4, cache
        train(config, str(workdir))
        ends[cache] = [row for row in read_rows(str(workdir)) if row["step"] == 88]
    assert [row["split"] for row in ends["device"]] == ["train", "validation", "test_best", "test_last"]
    for host, device in zip(*ends.values(), strict=True):
        assert device["loss"] == pytest.approx(host["loss"], rel=1e-4)
        assert device["top1_accuracy"] == pytest.approx(host["top1_accuracy"], abs=1e-3)


def test_check_fits_names_groups_or_memory(groups, monkeypatch):
    with pytest.raises(
        InputError, match=r"4 devices cannot share 6 groups .* --config\.data\.read_groups to a multiple of 4"
    ):
        check_fits(jax.local_devices(), 6, 5, 7)
    needed = 4 * 5 * math.ceil(3 * 49 / 4) * 4
    memory = {"bytes_limit": needed}
    device = SimpleNamespace(memory_stats=lambda: memory)
    monkeypatch.setattr("animesion_jax.training.device_data.local_devices", lambda devices: [device])
    with pytest.raises(InputError, match=r"GiB of images do not fit a device .* --config\.data\.cache=decoded"):
        check_fits(jax.local_devices(), 4, 5, 7)
    memory["bytes_limit"] = 2 * needed
    check_fits(jax.local_devices(), 4, 5, 7)
