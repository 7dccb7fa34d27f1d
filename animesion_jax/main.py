"""The entry of every command: `python -m animesion_jax.main [COMMAND] ...`, or `animesion [COMMAND] ...`."""

import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.compilation_cache import set_compilation_cache
from animesion_jax.errors import InputError, Stopped, first_line

# Their messages are shown from INFO on.
LOGGERS = ("animesion_jax", "tfds_builders")
# Exit statuses that a shell gives after Ctrl+C and after a closed pipe.
INTERRUPTED, CLOSED_PIPE = 130, 141
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str]) -> int:
    """Runs a command and returns the exit status; errors that the user can fix become one line on stderr."""
    # Hide TensorFlow's C++ messages below errors; a few lines at its start ignore the level.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    # Orbax logs a traceback of every error that it raises, and asyncio those of parallel writes.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    set_compilation_cache()
    arguments = list(argv[1:])
    command = arguments.pop(0) if arguments and not arguments[0].startswith("-") else "train"
    try:
        if command not in COMMANDS:
            raise InputError(f"unknown command '{command}'; allowed: {', '.join(COMMANDS)}")
        return importlib.import_module(f"animesion_jax.cli.{command}").main(arguments)
    except InputError as error:
        return _report(command, f"error: {error}", 2)
    except Stopped as stopped:
        return _report(command, str(stopped), 0)
    except KeyboardInterrupt:
        return _report(command, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, a pager) has exited. Drop the rest, or the flush at exit fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        if not error.filename and error.errno not in DISK_FULL:
            raise
        where = f"{error.filename}: " if error.filename else ""
        fix = "free some space" if error.errno in DISK_FULL else "check the path and its permissions"
        return _report(command, f"error: {where}{error.strerror}; {fix}, and try again", 2)
    except Exception as error:
        # TensorFlow's file system reads gs:// paths. Compare names: to compare types would import TensorFlow.
        if not type(error).__module__.startswith("tensorflow.python.framework.errors"):
            raise
        fix = "check the address, the network and the credentials, and try again"
        return _report(command, f"error: {first_line(error)}; {fix}", 2)


def _report(command: str, message: str, status: int) -> int:
    print(f"animesion {command}: {message}", file=sys.stderr)
    return status


def run() -> None:
    """Runs the console script `animesion`."""
    status = main(sys.argv)
    if status == INTERRUPTED:
        # XLA's threads may still compile and would crash the interpreter during its normal exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
