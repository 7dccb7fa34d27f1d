"""Where decoded or encoded examples are kept between epochs."""

import psutil

from animesion_jax.errors import InputError

CACHES = ("auto", "device", "decoded", "encoded", "none")


# "auto" leaves this part of the free memory to the rest of the program.
CACHE_FRACTION = 0.5


def choose_cache(
    cache: str,
    decoded_bytes: int,
    encoded_bytes: int,
    available: int | None = None,
    *,
    streamed: bool | None = None,
) -> str:
    """Returns the cache to use; "auto" takes the first of "decoded", "encoded" and "none" that half the memory holds.

    Args:
      cache: one of `CACHES`.
      decoded_bytes, encoded_bytes: what either cache would hold.
      available: free memory in bytes; None asks the system.
      streamed: whether the run has begun with the order of a stream, which "auto" keeps to whatever the memory; None
        for a new run.
    """
    if cache not in CACHES:
        raise InputError(f"unknown data.cache '{cache}'; allowed: {', '.join(CACHES)}")
    if cache != "auto":
        return cache
    if streamed:
        return "none"
    budget = CACHE_FRACTION * (psutil.virtual_memory().available if available is None else available)
    if decoded_bytes <= budget:
        return "decoded"
    return "encoded" if encoded_bytes <= budget or streamed is False else "none"
