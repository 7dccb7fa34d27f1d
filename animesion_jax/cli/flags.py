"""What commands have in common: their help, their flags, and a config with its overrides."""

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from animesion_jax.cli import COMMANDS
from animesion_jax.errors import InputError, first_line

CONFIG_HELP = """\
usage: animesion {command} --config=FILE[:ARGUMENT] --workdir=FOLDER [--config.FIELD=VALUE ...]

{text}

  --config=FILE[:ARGUMENT]  a config, such as {config}
  --config.FIELD=VALUE      overrides a field; {fields}
  --workdir=FOLDER          where checkpoints, metrics and curves go; local or gs://
  --accept_changes          go on in a workdir that was begun with another config
  --distributed             join the processes of a TPU pod slice or a SLURM job; all see the same workdir and data, and
                            elsewhere each gets, besides, --coordinator_address=HOST:PORT (of process 0),
                            --num_processes=N and --process_id=I (from 0)

example:
  python -m animesion_jax.main {example}

other commands: {others}; each explains itself with --help
"""
CONFIG_COMMANDS = {
    "train": {
        "text": "Trains a model, or goes on where an earlier start in the same workdir stopped.",
        "config": "configs/dafre_128.py:vit_b16",
        "fields": "configs/common.py lists and explains every field",
        "example": "--config=configs/demo.py --config.data_dir=data --workdir=runs/demo",
    },
    "sweep": {
        "text": """\
Trains a run for every combination of a grid (config.grid), one after the other, each in a folder of the workdir. Runs
that have ended are left as they are, and one that was interrupted goes on. config.base is the config of every run.""",
        "config": "configs/sweep_size.py:vit_b32",
        "fields": "config.base.FIELD is one of configs/common.py, for every run",
        "example": "sweep --config=configs/sweep_size.py:shallownet --config.base.data_dir=data --workdir=runs/sizes",
    },
}


@dataclass(frozen=True)
class Hosts:
    """Which processes make a run.

    Attributes:
      distributed: whether there are others.
      coordinator_address, num_processes, process_id: as in `distributed.initialize`.
    """

    distributed: bool
    coordinator_address: str | None
    num_processes: int | None
    process_id: int | None

    def join(self) -> None:
        """Joins the other processes, if there are any, and leaves messages and the bar to the first."""
        given = {field: value for field, value in vars(self).items() if field != "distributed" and value is not None}
        if given and not self.distributed:
            raise InputError(f"--{next(iter(given))} is for --distributed; give both")
        if self.distributed:
            from animesion_jax import distributed

            distributed.initialize(self.coordinator_address, self.num_processes, self.process_id)
            if not distributed.is_first():
                logging.getLogger("animesion_jax").setLevel(logging.WARNING)


@dataclass(frozen=True)
class RunArguments:
    """A command line of `CONFIG_COMMANDS`.

    Attributes:
      config: the config with its overrides.
      workdir: where the run is or will be.
      accept_changes: whether to go on with another config than the run was begun with.
      hosts: which processes make the run.
    """

    config: Any
    workdir: str
    accept_changes: bool
    hosts: Hosts


def load_config(arguments: Sequence[str], command: str = "train") -> RunArguments:
    """Returns the values of a command line of `CONFIG_COMMANDS`."""
    from absl import flags
    from ml_collections import config_flags

    argv = ["animesion", *arguments]
    for argument in arguments:
        if argument.startswith("--config="):
            file = argument.removeprefix("--config=").split(":")[0]
            if not os.path.isfile(file):
                where = "" if os.path.isabs(file) else f" in {os.getcwd()}"
                raise InputError(
                    f"no config file {file}{where}; allowed: a Python file, such as configs/demo.py of the project's "
                    "folder"
                )
            folder = os.path.dirname(os.path.abspath(file))
            # Configs import their neighbours as `from configs import common`, from any current folder.
            sys.path.insert(0, os.path.dirname(folder))
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_bool("accept_changes", False, "", flag_values=values)
    flags.DEFINE_bool("distributed", False, "", flag_values=values)
    flags.DEFINE_string("coordinator_address", None, "", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "", flag_values=values)
    flags.DEFINE_integer("process_id", None, "", flag_values=values)
    try:
        unparsed = values(argv)[1:]
        config, workdir = values.config, values.workdir
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError, ImportError, NameError) as error:
        raise InputError(f"{_explain(error)}; see animesion {command} --help") from error
    if unparsed:
        raise InputError(f"unexpected argument '{unparsed[0]}'; see animesion {command} --help")
    if config is None or not workdir:
        missing = "--config" if config is None else "--workdir"
        raise InputError(f"{missing} is missing; for example {CONFIG_COMMANDS[command]['example']}")
    return RunArguments(config, workdir, values.accept_changes, hosts_of(values))


def hosts_of(flags: Any) -> Hosts:
    """Returns what the flags of `add_host_flags`, or those of the same names, say."""
    return Hosts(flags.distributed, flags.coordinator_address, flags.num_processes, flags.process_id)


def _explain(error: BaseException) -> str:
    """Returns in one line what is wrong with a config or with a value given for one of its fields."""
    if isinstance(error, AttributeError | KeyError):
        # ml_collections names the field, or the one it would be below, and on a second line the nearest one.
        named = (
            error.args[0] if isinstance(error, KeyError) else (error.__cause__ or error.__context__ or error).args[0]
        )
        return f"unknown config field {' '.join(str(named).split())}"
    if str(error).startswith("flag --config."):
        return first_line(error).removeprefix("flag ")
    # What a config file raised is wrapped in errors of absl's own.
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return first_line(error)


def asks_for_help(arguments: Sequence[str], command: str) -> bool:
    """Prints the help of a command of `CONFIG_COMMANDS` if asked to; returns whether it was."""
    asked = bool({"-h", "--help", "-help"} & set(arguments))
    if asked:
        others = ", ".join(name for name in COMMANDS if name != command)
        print(CONFIG_HELP.format(command=command, others=others, **CONFIG_COMMANDS[command]))
    return asked


def parser_of(command: str, description: str, example: str) -> argparse.ArgumentParser:
    """Returns the argument parser of a command, with an example in its help."""
    return Parser(
        prog=f"animesion {command}",
        description=description,
        epilog=f"example:\n  python -m animesion_jax.main {command} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage text before it."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """As argparse's, but a misspelt flag is what is told, not the required one that is missing for it."""
        flags = {flag for action in self._actions for flag in action.option_strings}
        for argument in args or ():
            name = argument.partition("=")[0]
            if name == "--":
                break
            if name.startswith("--") and name not in flags:
                near = difflib.get_close_matches(name, flags, 1)
                self.error(f"unrecognized arguments: {argument}{f', did you mean {near[0]}?' if near else ''}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> None:
        """Raises InputError with the message and how to get help."""
        raise InputError(f"{message}; see {self.prog} --help")


def add_host_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that make several processes one run."""
    parser.add_argument(
        "--distributed", action="store_true", help="join the processes of a TPU pod slice, SLURM job, or as given below"
    )
    parser.add_argument("--coordinator_address", help="HOST:PORT of process 0, where they are not found out")
    parser.add_argument("--num_processes", type=int, help="how many processes, likewise")
    parser.add_argument("--process_id", type=int, help="which one this is, from 0, likewise")


def add_run_flags(parser: argparse.ArgumentParser, or_bundle: bool = False) -> None:
    """Adds --workdir and --weights, which choose a checkpoint; with `or_bundle` also --bundle, in their place."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="folder of a training run")
    if or_bundle:
        source.add_argument("--bundle", help="file that export wrote, in place of a run")
    parser.add_argument(
        "--weights",
        choices=("best", "last"),
        help="best by validation top-1, or last (what the paper's tables report); default: config.default_weights of "
        "the run, which is best but for faithful runs",
    )


def add_images(parser: argparse.ArgumentParser) -> None:
    """Adds the images that a command is about, `images`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are searched for images")


def add_calibration_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what decides which images are of an unknown character."""
    parser.add_argument(
        "--false_accept_rate",
        type=float,
        help="part of the images of unknown characters that may be named; default: that at which as large a part of "
        "the known ones is called unknown",
    )
    parser.add_argument(
        "--unknown", nargs="+", default=[], metavar="IMAGE_OR_FOLDER",
        help="images of characters that the model does not know, to set the threshold by; default: the validation "
        "images stand in for them, each without its own character among the known",
    )  # fmt: skip
    parser.add_argument("--data_dir", help="where the data set is built now; default: where it was in training")
