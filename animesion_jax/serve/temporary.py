"""The server's own temporary folder."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from animesion_jax.errors import InputError

# Gradio reads it when it is imported and when an application is created. Its default, /tmp/gradio, may belong to
# another user.
GRADIO_FOLDER = "GRADIO_TEMP_DIR"


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """Yields a new folder where gradio keeps uploads; removes it at the end.

    Import gradio inside.

    Raises:
      InputError: temporary files cannot be written.
    """
    before = os.environ.get(GRADIO_FOLDER)
    with _new_folder() as folder:
        os.environ[GRADIO_FOLDER] = folder
        try:
            yield folder
        finally:
            del os.environ[GRADIO_FOLDER]
            if before is not None:
                os.environ[GRADIO_FOLDER] = before


def _new_folder() -> tempfile.TemporaryDirectory:
    parent = os.environ.get("TMPDIR") or None
    try:
        # Without `dir`, Python takes another folder if it cannot write to TMPDIR.
        return tempfile.TemporaryDirectory(prefix="animesion_serve_", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        where = f"TMPDIR is {parent}" if parent else "no folder for temporary files"
        raise InputError(f"{where} ({error.strerror}); set TMPDIR to a folder that you may write to") from error
