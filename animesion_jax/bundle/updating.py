"""A lock for commands that replace a bundle by a changed copy."""

import contextlib
import os
from collections.abc import Iterator

from animesion_jax.files import expand_home, locked


@contextlib.contextmanager
def updating(bundle: str, output: str) -> Iterator[None]:
    """Locks a bundle while the block reads it and writes its changed copy, if that copy replaces it.

    Args:
      bundle: file to read, local or gs://; gs:// has no locks.
      output: file to write.

    Raises:
      InputError: another process changes the bundle; one of the two changes would be lost.
    """
    source, target = expand_home(bundle), expand_home(output)
    if not os.path.isfile(source) or os.path.realpath(source) != os.path.realpath(target):
        yield
        return
    with locked(source, f"{bundle} is being changed by another command; wait for its end, or give another --output"):
        yield
