"""A lock for commands that change a bundle in place."""

import contextlib
import os
from collections.abc import Iterator

from animesion_jax.files import expand_home, locked


@contextlib.contextmanager
def updating(bundle: str, output: str) -> Iterator[None]:
    """Locks a bundle during the block if `output` is the same file; does nothing otherwise.

    Args:
      bundle: file to read, local or gs://; gs:// has no locks.
      output: file to write.

    Raises:
      InputError: another process is changing the bundle.
    """
    source, target = expand_home(bundle), expand_home(output)
    if not os.path.isfile(source) or os.path.realpath(source) != os.path.realpath(target):
        yield
        return
    with locked(source, f"another command is changing {bundle}; wait until it ends, or give another --output"):
        yield
