"""JAX's compilation cache on disk: a second start of a command does not compile its programs again."""

import grp
import hashlib
import logging
import os
import platform
import pwd
from pathlib import Path

from animesion_jax.errors import InputError, first_line
from animesion_jax.files import expand_home
from animesion_jax.hub import cache_folder

FOLDER = "JAX_COMPILATION_CACHE_DIR"
# JAX reads these when it is imported. Its default skips programs that compile within a second; a command has dozens.
SETTINGS = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),
}
# Lines of /proc/cpuinfo that describe the instructions of a processor, on x86 and ARM.
CPU_LINES = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")

log = logging.getLogger(__name__)


def set_compilation_cache() -> None:
    """Sets JAX's cache folder unless the environment sets it; "" turns the cache off.

    Call this before JAX is imported. If the folder cannot be used, the cache is off, and a message says why.

    Raises:
      InputError: the user's folder starts with `~`, and the home folder is unknown.
    """
    if FOLDER in os.environ:
        os.environ[FOLDER] = expand_home(os.environ[FOLDER])
        return
    try:
        folder = _make_folder()
    except (InputError, OSError) as error:
        log.info("the compilation cache is off: %s; to turn it on, set %s=FOLDER", first_line(error), FOLDER)
        return
    os.environ[FOLDER] = str(folder)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def _make_folder() -> Path:
    """Creates and returns the cache folder; InputError or OSError if JAX cannot use it."""
    folder = cache_folder() / "compiled" / processor()
    if set("*?[") & set(str(folder)):
        raise InputError(f"JAX cannot use {folder}, a path with one of * ? [")
    try:
        # JAX reads the size of each program with `epath.Path.stat`, which needs the names of user and group.
        pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    except KeyError as error:
        raise InputError("the user or the group of this process is not in /etc/passwd or /etc/group") from error
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder} cannot be written to")
    return folder


def processor() -> str:
    """Returns a name for this kind of processor.

    Programs for a CPU contain its instructions, which JAX's cache key leaves out, and machines may share a home folder.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []
    described = "\n".join([platform.processor(), *sorted({line for line in lines if line.startswith(CPU_LINES)})])
    return f"{platform.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"
