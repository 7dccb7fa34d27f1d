"""A lock for commands that change a bundle in place."""

import contextlib
import os
from collections.abc import Iterator

from animesion_jax.files import check_output, expand_home, locked


@contextlib.contextmanager
def updating(bundle: str, output: str) -> Iterator[None]:
    """Locks a bundle during the block if `output` is the same file; does nothing otherwise.

    Args:
      bundle: local file or address to read; addresses have no locks.
      output: file to write, local or gs://.

    Raises:
      InputError: another process is changing the bundle, or `output` is an address that cannot be written to.
    """
    check_output(output)
    source, target = expand_home(bundle), expand_home(output)
    if not os.path.isfile(source) or os.path.realpath(source) != os.path.realpath(target):
        yield
        return
    with locked(source, f"another command is changing {bundle}; wait until it ends, or give another --output"):
        yield
