"""The entry of every command: `python -m animesion_jax.main [COMMAND] ...`, or `animesion [COMMAND] ...`."""

import errno
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

from animesion_jax.cli import COMMANDS
from animesion_jax.errors import InputError, Stopped, first_line, missing_extra

# Their messages are shown from INFO on.
LOGGERS = ("animesion_jax", "tfds_builders")
# Exit statuses that a shell gives after Ctrl+C and after a closed pipe.
INTERRUPTED, CLOSED_PIPE = 130, 141
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str]) -> int:
    """Runs a command and returns the exit status; errors that the user can fix become one line on stderr."""
    # Hide TensorFlow's C++ messages below errors; a few lines at its start ignore the level.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow's import creates a folder for Keras in the home folder, or in "~" if that is unknown. It is unused.
    os.environ.setdefault("KERAS_HOME", os.devnull)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    # Orbax and gcsfs log a traceback of every error that they raise, and asyncio those of parallel writes. Matplotlib
    # logs that it has no home folder for its cache.
    for name in ("absl", "asyncio", "gcsfs", "matplotlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Escape undecodable bytes, and letters that the terminal's encoding lacks, instead of failing.
    sys.stdout.reconfigure(errors="backslashreplace")
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
    except Exception as error:
        if message := _explain(error):
            return _report(command, f"error: {message}", 2)
        raise


def _report(command: str, message: str, status: int) -> int:
    print(f"animesion {command}: {message}", file=sys.stderr)
    return status


def _explain(error: Exception) -> str | None:
    """Returns one line for an error of a library that the user can fix; None for a bug."""
    if isinstance(error, ImportError):
        return missing_extra(error)
    if _is_from_gs(error):
        message = f"{type(error).__name__}: {first_line(error)}"
        return f"{message}; check the address, the network and the credentials, and try again"
    if isinstance(error, OSError) and (error.filename or error.errno in DISK_FULL):
        where = f"{error.filename}: " if error.filename else ""
        fix = "free some space" if error.errno in DISK_FULL else "check the path and its permissions"
        return f"{where}{error.strerror}; {fix}, and try again"
    if isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8":
        text = error.object[error.start : error.end]
        return f"the locale's encoding, {error.encoding}, lacks {text!a}; set PYTHONUTF8=1 or a locale with UTF-8"
    if isinstance(error, RuntimeError | AssertionError) and (why := _missing_device(error)):
        given = os.environ.get("JAX_PLATFORMS")
        return (
            f"JAX found no device ({why}); JAX_PLATFORMS is {given!r}; allowed: cpu, cuda (install the extra [cuda]), "
            "tpu (install the extra [tpu]); unset it to use any device"
        )
    return None


def _is_from_gs(error: Exception) -> bool:
    """Returns whether the file system of a gs:// path failed: TensorFlow's, or gcsfs."""
    # Compare names: to compare types would import TensorFlow. gcsfs raises its own errors, those of three libraries,
    # and OSErrors without a number, so look for its functions in the traceback.
    functions = traceback.walk_tb(error.__traceback__)
    return type(error).__module__.startswith("tensorflow.python.framework.errors") or any(
        frame.f_globals["__name__"].startswith("gcsfs.") for frame, _ in functions
    )


def _missing_device(error: Exception) -> str | None:
    """Returns why JAX found no device; None if the error has another cause."""
    if str(error).startswith("Unable to initialize backend"):
        return first_line(error)
    try:
        # JAX checks JAX_PLATFORMS with an assertion and hides its traceback. Ask again to recognise the assertion.
        sys.modules["jax"].devices()
    except AssertionError:
        return "this machine has none of that kind"
    except (KeyError, RuntimeError):
        pass
    return None


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Repeats Ctrl+C: Python drops a KeyboardInterrupt in a destructor or a callback of its garbage collection."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def run() -> None:
    """Runs the console script `animesion`."""
    sys.unraisablehook = _interrupt_again
    status = main(sys.argv)
    if status == INTERRUPTED:
        # XLA's threads may still compile and would crash the interpreter during its normal exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
