"""JAX's compilation cache on disk: a second start of a command does not compile its programs again."""

import contextlib
import hashlib
import os
import platform
from pathlib import Path

FOLDER = "JAX_COMPILATION_CACHE_DIR"
# JAX reads these when it is imported. Its default skips programs that compile within a second; a command has dozens.
SETTINGS = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),
}
# Lines of /proc/cpuinfo that describe the instructions of a processor, on x86 and ARM.
CPU_LINES = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")


def set_compilation_cache() -> None:
    """Sets the cache folder, below the user's cache folder, unless the user has set one; "" means no cache."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(caches) / "animesion_jax" / "compiled" / processor()
    if FOLDER in os.environ:
        return
    # Without write permission in the home folder there is no cache.
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[FOLDER] = str(folder)
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)


def processor() -> str:
    """Returns a name for this kind of processor.

    Programs for a CPU contain its instructions, which JAX's cache key leaves out, and machines may share a home folder.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    described = "\n".join([platform.processor(), *sorted({line for line in lines if line.startswith(CPU_LINES)})])
    return f"{platform.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
