"""Starting TensorFlow, which only reads data here: quietly, and without the accelerators."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def hide_accelerators_from_tensorflow() -> None:
    """Keeps TensorFlow, which only reads data here, from taking the GPU's memory or the TPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with silent_native_stderr():
        import tensorflow as tf

        for kind in ("GPU", "TPU"):
            tf.config.set_visible_devices([], kind)


@contextlib.contextmanager
def silent_native_stderr() -> Iterator[None]:
    """Swallows what native code writes to stderr inside the block; it is printed after all if the block raises.

    TensorFlow's C++ reports missing CUDA libraries in lines that no log level of its own suppresses.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as swallowed:
        os.dup2(swallowed.fileno(), 2)
        try:
            yield
        except Exception:
            swallowed.seek(0)
            os.write(kept, swallowed.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
