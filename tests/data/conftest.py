import pytest

from animesion_jax.data.datasets import load_dataset


@pytest.fixture(scope="module")
def dataset(toyfaces_dir):
    return load_dataset("toyfaces", str(toyfaces_dir))


@pytest.fixture
def held_out_config(toy_config):
    toy_config.held_out = 0.125
    return toy_config
