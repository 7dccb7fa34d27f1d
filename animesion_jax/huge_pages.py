"""Large arrays of the host in pages of 2 MiB instead of 4 KiB, of which the kernel has to hand out and zero fewer."""

import contextlib
import os
import sys
from pathlib import Path

# What glibc reads when a process starts, from version 2.35 on.
VARIABLE = "GLIBC_TUNABLES"
TUNABLE = "glibc.malloc.hugetlb=1"
OLDEST_GLIBC = (2, 35)
# Linux names the setting in force in brackets. With "always" there is nothing to ask for, with "never" no use in it.
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# How this program is started.
MODULE, SCRIPT = "animesion_jax.main", "animesion"


def ask_for_huge_pages() -> None:
    """Starts this program anew, as the same process, with huge pages where Linux gives them to whoever asks.

    XLA frees a step's buffers on the CPU after every step, so every page is handed out anew each time. Nothing is done
    where the user has set `GLIBC_TUNABLES`, to an empty value too, or where Python was started with something else (a
    debugger, a script that calls ours), which would begin again.
    """
    started = sys.orig_argv[1:]
    ours = started[:2] == ["-m", MODULE] or (bool(started) and Path(started[0]).name == SCRIPT)
    if VARIABLE in os.environ or not (ours and sys.executable and are_given_on_request()):
        return
    os.environ[VARIABLE] = TUNABLE
    # Where it cannot be started again, this process goes on as it is.
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, *started])


def are_given_on_request() -> bool:
    """Whether this system gives huge pages to programs that ask, and its C library can ask."""
    try:
        library, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        new_enough = library == "glibc" and tuple(map(int, version.split(".")[:2])) >= OLDEST_GLIBC
        return new_enough and "[madvise]" in SETTING.read_text()
    except (AttributeError, ValueError, OSError):
        # Another C library, or not Linux.
        return False
