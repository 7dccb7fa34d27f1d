"""Compiled programs kept on disk: a second start of a command does not compile them again."""

import hashlib
import os
import platform
from pathlib import Path

# JAX's settings, by the environment variables that it reads when it is imported. Its default leaves out what compiles
# within a second, of which a start has dozens. Beyond 2 GiB, what was not used for longest goes.
SETTINGS = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),
}
FOLDER = "JAX_COMPILATION_CACHE_DIR"
# Lines of /proc/cpuinfo that say what a processor can do; x86's and ARM's words.
DESCRIPTIONS = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")


def keep_compiled() -> None:
    """Has JAX, which is not imported yet, keep what it compiles below the user's cache folder.

    A `JAX_COMPILATION_CACHE_DIR` of the user's own is left as it is, and an empty one means none. JAX itself tells
    programs apart by its version, the compiler's flags and the kind of accelerator, but not by the processor, whose
    instructions a program for the CPU is made of: home folders are shared among machines, so each kind has its own.
    """
    if FOLDER in os.environ:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(caches) / "animesion_jax" / "compiled" / processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        # A home that cannot be written to costs time, nothing else.
        return
    if os.access(folder, os.W_OK):
        os.environ[FOLDER] = str(folder)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)


def processor() -> str:
    """Returns a name for this machine's kind of processor, the same for the same model and instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    described = "\n".join([platform.processor(), *sorted({line for line in lines if line.startswith(DESCRIPTIONS)})])
    return f"{platform.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
