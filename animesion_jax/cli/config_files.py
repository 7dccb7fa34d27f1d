"""The config files that come with the package, and the user's own."""

import importlib.util
import os
import re
from pathlib import Path

from animesion_jax.errors import InputError
from animesion_jax.files import expand_home

# The user's config files, below the current folder; they come before the package's.
OWN = Path("configs")
# A string, because no module imports the configs.
PACKAGED = "animesion_jax.configs"
# How a config file defines its function: by itself, or by importing another config's.
DEFINITION = re.compile(r"^(def get_config\b|get_config *=|from .* import .*\bget_config\b)", re.MULTILINE)


def packaged_folder() -> Path:
    """Returns the folder of the config files that come with the package.

    Raises:
      InputError: the package is not installed, or was installed before it had config files.
    """
    spec = importlib.util.find_spec(PACKAGED)
    if spec is None:
        raise InputError("the configs of animesion_jax are not installed; install them, in a clone: pip install -e .")
    (folder,) = spec.submodule_search_locations
    return Path(folder)


def config_files(folder: Path) -> dict[str, Path]:
    """Returns the config files in a folder by name, sorted; `find_config` takes the names."""
    return {file.stem: file for file in sorted(folder.glob("*.py")) if file.is_file() and _defines_config(file)}


def find_config(name: str) -> Path:
    """Returns the file of a config.

    Args:
      name: a path, or the name of configs/NAME.py in the current folder, else of a config of the package.

    Raises:
      InputError: no such file, or it is no config.
    """
    if name.endswith(".py") or os.path.dirname(name):
        file = Path(expand_home(name))
        if not file.is_file():
            where = "" if file.is_absolute() else f" in {os.getcwd()}"
            raise InputError(f"no config file {file}{where}; allowed: a Python file, or {_names()}")
    else:
        candidates = [folder / f"{name}.py" for folder in (OWN, packaged_folder())]
        file = next(filter(Path.is_file, candidates), None)
        if file is None:
            raise InputError(f"no config '{name}'; allowed: {_names()}, or a Python file")
    if not _defines_config(file):
        raise InputError(f"{file} has no function get_config; allowed: {_names()}, or a Python file with it")
    return file


def _names() -> str:
    return ", ".join(sorted({*config_files(OWN), *config_files(packaged_folder())}))


def _defines_config(file: Path) -> bool:
    return DEFINITION.search(file.read_text(encoding="utf-8", errors="replace")) is not None
