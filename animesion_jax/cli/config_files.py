"""The config files that come with the package, and the user's own."""

import importlib.util
import os
from pathlib import Path

from animesion_jax.errors import InputError
from animesion_jax.files import expand_home

# The user's config files, below the current folder; they come before the package's.
OWN = Path("configs")
# A string, because no module imports the configs.
PACKAGED = "animesion_jax.configs"


def packaged_folder() -> Path:
    """Returns the folder of the config files that come with the package."""
    (folder,) = importlib.util.find_spec(PACKAGED).submodule_search_locations
    return Path(folder)


def config_names(folder: Path) -> list[str]:
    """Returns the names of the config files in a folder, sorted; `find_config` takes them."""
    return sorted(file.stem for file in folder.glob("*.py") if "def get_config(" in file.read_text(encoding="utf-8"))


def find_config(name: str) -> Path:
    """Returns the file of a config: a path, or a name for configs/NAME.py here, else of the package.

    Raises:
      InputError: no such file.
    """
    if name.endswith(".py") or os.path.dirname(name):
        file = Path(expand_home(name))
        if not file.is_file():
            where = "" if file.is_absolute() else f" in {os.getcwd()}"
            raise InputError(f"no config file {file}{where}; allowed: a Python file, or a name of `animesion configs`")
        return file
    for folder in (OWN, packaged_folder()):
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    names = sorted({*config_names(OWN), *config_names(packaged_folder())})
    raise InputError(f"no config '{name}'; allowed: {', '.join(names)}, or a Python file")
