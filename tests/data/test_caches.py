from types import SimpleNamespace

import pytest

from animesion_jax.data.caches import choose_cache


@pytest.fixture
def free_memory(monkeypatch):
    return lambda size: monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=size))


@pytest.mark.parametrize(("available", "expected"), [(1000, "decoded"), (400, "encoded"), (100, "none")])
def test_auto_takes_the_first_cache_that_fits_half_the_memory(free_memory, available, expected):
    free_memory(available)
    assert choose_cache("auto", 500, 100) == expected


def test_auto_keeps_the_order_of_a_resumed_run(free_memory):
    free_memory(2000)
    assert choose_cache("auto", 500, 100, streamed=True) == "none"
    free_memory(10)
    assert choose_cache("auto", 500, 100, streamed=False) == "encoded"
