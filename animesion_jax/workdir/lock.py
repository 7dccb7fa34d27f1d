"""A lock that allows one training at a time in a workdir."""

import contextlib
import os
import re
from collections.abc import Iterator

from etils import epath

from animesion_jax import distributed
from animesion_jax.errors import InputError
from animesion_jax.files import expand_utf8, locked
from animesion_jax.workdir.faults import writing

# Orbax treats * ? [ in paths as wildcards. TensorStore, which writes the arrays, treats \ as /.
REFUSED = re.compile(r"[*?\[\\]")


def check_path(workdir: str) -> epath.Path:
    """Returns the absolute path of a workdir; InputError if checkpoints do not support the path."""
    path = epath.Path(expand_utf8(workdir)).resolve()
    if found := REFUSED.findall(str(path)):
        raise InputError(
            f"--workdir={workdir}: the path {path} has {' '.join(found)}, which checkpoints do not support; allowed: a "
            "path without * ? [ \\; rename the folder, or give another one"
        )
    return path


@contextlib.contextmanager
def locked_workdir(workdir: str) -> Iterator[None]:
    """Creates a workdir and locks it during the block; removes it afterwards if it is new and empty.

    All processes of a run call this; the first one takes the lock. A kill releases it.

    Raises:
      InputError: another run is training in the workdir, or it cannot be written to.
    """
    path = check_path(workdir)
    message = f"another training is running in --workdir={workdir}; wait for it, stop it, or give another --workdir"
    failure: InputError | None = None
    with contextlib.ExitStack() as stack:
        if distributed.is_first():
            try:
                with writing(workdir):
                    is_new = not path.exists()
                    path.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(path, message))
                    if is_new:
                        stack.callback(_remove_if_empty, path)
            except InputError as error:
                failure = error
        if distributed.any_process(failure is not None):
            raise failure or InputError(message)
        yield


def _remove_if_empty(path: epath.Path) -> None:
    # Do not use `path.rmdir`: it checks first whether the folder is empty, and then removes whatever is in it.
    with contextlib.suppress(OSError):
        os.rmdir(path)
