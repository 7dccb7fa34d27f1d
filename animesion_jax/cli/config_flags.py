"""Config files and overrides of their fields, read by ml_collections."""

import difflib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from animesion_jax.cli.config_files import find_config, packaged_folder
from animesion_jax.errors import InputError, first_line

# Errors of a config file or a value. All others are bugs of the program.
FAULTS = (flags.Error, AttributeError, ImportError, KeyError, NameError, SyntaxError, TypeError, ValueError)


def load_config(config: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Returns the config of a file with some fields overridden.

    Args:
      config: `NAME` or `FILE`, then `:ARGUMENT` if the file's `get_config` takes one.
      overrides: arguments `--config.FIELD=VALUE`; `--config.stages[1].FIELD=VALUE` for a field of a stage.

    Raises:
      InputError: no such file or field, an error in the file, or an invalid value.
    """
    name, *argument = config.split(":", 1)
    file = find_config(name)
    if not file.is_relative_to(packaged_folder()):
        # The user's config files import their neighbours as `from FOLDER import NAME`, from any current folder.
        sys.path.insert(0, str(file.absolute().parent.parent))
    try:
        loaded = _parse(config_flags.DEFINE_config_file, [f"--config={':'.join([str(file), *argument])}"])
    except InputError as error:
        raise InputError(f"{file}{_line(error, file)}: {error}") from error
    if not isinstance(loaded, ml_collections.ConfigDict):
        raise InputError(f"{file}: get_config returns {type(loaded).__name__}; allowed: a ConfigDict")
    for index, override in enumerate(overrides):
        if override.startswith("--"):
            _check_override(loaded, override, overrides[index + 1 : index + 2])
    return _parse(config_flags.DEFINE_config_dict, overrides, loaded) if overrides else loaded


def _parse(define: Callable[..., Any], arguments: Sequence[str], *defaults: Any) -> ml_collections.ConfigDict:
    argv, values = ["animesion", *arguments], flags.FlagValues()
    try:
        define("config", *defaults, flag_values=values, sys_argv=argv)
        unparsed = values(argv)[1:]
    except FAULTS as error:
        if str(error).startswith("flag --config."):
            raise InputError(first_line(error).removeprefix("flag ")) from error
        # absl wraps the error of a config file.
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__
        # ml_collections adds all fields of the config.
        raise InputError(first_line(cause).partition(" Other fields present")[0].lstrip("'")) from error
    if unparsed:
        raise InputError(f"unexpected argument '{unparsed[0]}'")
    return values.config


def _line(error: BaseException | None, file: Path) -> str:
    """Returns ", line N" for the last line of a file in the tracebacks of an error and its causes; "" for none."""
    line = ""
    while error:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == str(file):
                line = f", line {frame.lineno}"
        error = error.__cause__ or error.__context__
    return line


def _check_override(config: ml_collections.ConfigDict, override: str, following: Sequence[str]) -> None:
    """Raises InputError for an unknown field, or one without a value after "=" or in the `following` argument."""
    flag, equals, _ = override.partition("=")
    name = flag.partition(".")[2]
    _check_field(config, name)
    if equals or config_path.get_type(name, config) is bool:
        return
    if not following or following[0].startswith("--"):
        raise InputError(f"{flag} has no value; allowed: {flag}=VALUE")


def _check_field(config: ml_collections.ConfigDict, name: str) -> None:
    """Raises InputError unless the config has the field, and no fields below it."""
    try:
        if "[-" in name:
            raise IndexError("a negative index")
        value = config_path.get_value(name, config)
    except (*FAULTS, IndexError) as error:
        near = difflib.get_close_matches(name, _field_names(config), 1)
        hint = f", did you mean {near[0]}?" if near else ""
        raise InputError(f"unknown config field '{name}'{hint}") from error
    if below := list(_field_names(value, name + ".")):
        raise InputError(f"config.{name} has fields of its own; set one of them, such as --config.{below[0]}=VALUE")


def _field_names(config: Any, prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of all fields that hold a value; nothing if `config` is a value itself."""
    if isinstance(config, ml_collections.ConfigDict):
        for name, value in config.items():
            yield from list(_field_names(value, f"{prefix}{name}.")) or [f"{prefix}{name}"]
    elif isinstance(config, tuple):
        for index, value in enumerate(config):
            yield from _field_names(value, f"{prefix.removesuffix('.')}[{index}].")
