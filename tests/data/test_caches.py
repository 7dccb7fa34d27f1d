import pytest

from animesion_jax.data.caches import choose_cache
from animesion_jax.errors import InputError


@pytest.mark.parametrize(("available", "expected"), [(1000, "decoded"), (400, "encoded"), (100, "none")])
def test_auto_takes_the_first_cache_that_fits_half_the_memory(available, expected):
    assert choose_cache("auto", 500, 100, available) == expected


@pytest.mark.parametrize(("streamed", "expected"), [(True, "none"), (False, "encoded")])
def test_auto_keeps_the_order_of_a_resumed_run(streamed, expected):
    assert choose_cache("auto", 500, 100, 2000, streamed=True) == "none"
    assert choose_cache("auto", 500, 100, 10, streamed=streamed) == expected


def test_unknown_cache_is_refused():
    with pytest.raises(InputError, match=r"unknown data\.cache 'ram'; allowed: auto, device, decoded, encoded, none"):
        choose_cache("ram", 1, 1)
