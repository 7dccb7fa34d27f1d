"""The entry of every command: `python -m animesion_jax.main [COMMAND] ...`, or `animesion [COMMAND] ...`."""

import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.compilation_cache import keep_compiled
from animesion_jax.errors import InputError, Stopped, first_line

# Whose messages are shown from INFO on.
LOGGERS = ("animesion_jax", "tfds_builders")
# The exit status that a shell gives to what Ctrl+C has ended.
INTERRUPTED = 130
# What the system says of a disk without room for more.
FULL = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str]) -> int:
    """Runs a command and returns the exit status; what the user can mend becomes one line on stderr."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    # Orbax logs the traceback of what it raises as well, and asyncio those of its writes that failed beside the first.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    keep_compiled()
    command, arguments = command_of(argv)
    try:
        if command not in COMMANDS:
            raise InputError(f"unknown command '{command}'; allowed: {', '.join(COMMANDS)}")
        return importlib.import_module(f"animesion_jax.cli.{command}").run(arguments)
    except InputError as error:
        print(f"animesion {command}: error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"animesion {command}: {stopped}", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print(f"animesion {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, a pager) has left: not an error, but nothing can be flushed any more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if not error.filename and error.errno not in FULL:
            raise
        # A path that is a file instead of a folder, cannot be written, or is gone; or a disk without room.
        where = f"{error.filename}: " if error.filename else ""
        mend = "make room" if error.errno in FULL else "check the path and its permissions"
        print(f"animesion {command}: error: {where}{error.strerror}; {mend}, and try again", file=sys.stderr)
        return 2
    except Exception as error:
        # Of gs:// paths, which TensorFlow's file system reads; naming its type would import it.
        if not type(error).__module__.startswith("tensorflow.python.framework.errors"):
            raise
        print(
            f"animesion {command}: error: {first_line(error)}; check the address, the network and the credentials, and "
            "try again",
            file=sys.stderr,
        )
        return 2


def command_of(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the command that is named, or else `train`, and its arguments."""
    arguments = list(argv[1:])
    named = arguments and not arguments[0].startswith("-")
    return arguments.pop(0) if named else "train", arguments


def run() -> None:
    """The console script `animesion`."""
    status = main(sys.argv)
    if status == INTERRUPTED:
        # XLA's threads may still compile, and would crash an interpreter that is taken apart around them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    run()
