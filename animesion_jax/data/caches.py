"""The choice of what a run keeps in memory between epochs: decoded images, encoded ones or none."""

import psutil

from animesion_jax.errors import InputError

CACHES = ("auto", "device", "decoded", "encoded", "none")
# "auto" uses at most this fraction of the free memory.
CACHE_FRACTION = 0.5


def choose_cache(
    cache: str,
    decoded_bytes: int,
    encoded_bytes: int,
    available: int | None = None,
    *,
    streamed: bool | None = None,
) -> str:
    """Returns the cache to use; "auto" takes the first of "decoded", "encoded" and "none" that fits half the memory.

    Args:
      cache: one of `CACHES`.
      decoded_bytes, encoded_bytes: size of either cache.
      available: free memory in bytes; None asks the system.
      streamed: whether the run began with the order of a stream, which "auto" then keeps; None for a new run.

    Raises:
      InputError: unknown cache.
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
