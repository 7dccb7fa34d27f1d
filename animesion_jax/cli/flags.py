"""The command line: one argparse parser for all commands, and the flags that several commands share."""

import argparse
import difflib
import logging
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from animesion_jax import __version__
from animesion_jax.cli.compilation_cache import set_compilation_cache
from animesion_jax.errors import InputError

# ml_collections parses the flags with these prefixes; the parser ignores them.
OVERRIDES = ("--config.", "--noconfig.")


class Parser(argparse.ArgumentParser):
    """The argument parser of a command; reports an error in one line, without the usage.

    Attributes:
      compiles: whether the command compiles programs. If so, parsing sets JAX's compilation cache, except for --help
        and invalid flags.
    """

    compiles = True

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        """Parses like argparse, but reports a misspelt flag before a required flag that is missing."""
        flags = {flag for action in self._actions for flag in action.option_strings}
        for argument in args or ():
            name = argument.partition("=")[0]
            if name == "--":
                break
            if name.startswith("--") and name not in flags and not name.startswith(OVERRIDES):
                near = difflib.get_close_matches(name, flags, 1)
                self.error(f"unrecognized arguments: {argument}{f', did you mean {near[0]}?' if near else ''}")
        parsed = super().parse_known_args(args, namespace)
        if self.compiles:
            set_compilation_cache()
        return parsed

    def error(self, message: str) -> None:
        """Raises InputError with the message and how to get help."""
        raise InputError(f"{message}; see {self.prog} --help")


def make_parser(command: str, description: str, example: str, *, compiles: bool = True) -> Parser:
    """Returns the parser of a command.

    Args:
      command: its name.
      description: an empty line separates paragraphs.
      example: arguments, shown in the help.
      compiles: whether the command compiles programs with JAX.
    """
    parser = Parser(
        prog=f"animesion {command}",
        description="\n\n".join(textwrap.fill(text, 100) for text in description.split("\n\n")),
        epilog=f"example:\n  animesion {command} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.compiles = compiles
    parser.add_argument("--version", action="version", version=f"animesion_jax {__version__}")
    return parser


def parse_with_config(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Adds the flags of a command that trains and returns the parsed ones; `config` is the config with its overrides.

    Raises:
      InputError: a flag, the config or an override is invalid.
    """
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME[:ARGUMENT]",
        help="such as dafre_128:vit_b16, a name of `animesion configs`; or a Python file",
    )
    parser.add_argument(
        "--config.FIELD", metavar="VALUE", help="override a field; animesion_jax/config/fields.py explains every field"
    )
    parser.add_argument("--workdir", required=True, help="folder for checkpoints, metrics and curves; local or gs://")
    parser.add_argument(
        "--accept_changes", action="store_true", help="resume with a config that differs from the workdir's"
    )
    add_process_flags(parser)
    args, overrides = parser.parse_known_args(argv)
    if not args.workdir:
        parser.error("--workdir is empty; allowed: a folder, such as --workdir=runs/mine")
    from animesion_jax.cli.config_flags import load_config

    try:
        args.config = load_config(args.config, overrides)
    except InputError as error:
        parser.error(str(error))
    return args


def use_utf8_output() -> None:
    r"""Makes stdout UTF-8 in any locale; undecodable bytes of file names become escapes such as "\udcff".

    Call it before a command prints JSON or CSV.
    """
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def add_process_flags(parser: Parser) -> None:
    """Adds the flags of a run in several processes."""
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="join the processes of a TPU pod slice, a SLURM job or the three flags below; they share all files",
    )
    parser.add_argument("--coordinator_address", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--num_processes", type=int, metavar="N", help="number of processes")
    parser.add_argument("--process_id", type=int, metavar="I", help="index of this process, from 0")


def join_processes(args: argparse.Namespace) -> None:
    """Joins the other processes of `--distributed`; the first one alone logs and shows the progress."""
    named = {name: getattr(args, name) for name in ("coordinator_address", "num_processes", "process_id")}
    if not args.distributed:
        for name, value in named.items():
            if value is not None:
                raise InputError(f"--{name} is for --distributed; give both")
        return
    from animesion_jax import distributed

    distributed.initialize(**named)
    if not distributed.is_first():
        logging.getLogger("animesion_jax").setLevel(logging.WARNING)


def add_run_flags(parser: Parser, or_bundle: bool = False) -> None:
    """Adds --workdir and --weights, which choose a checkpoint; with `or_bundle`, --bundle may replace them."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--workdir", help="folder of a training run")
    if or_bundle:
        source.add_argument("--bundle", help="file written by export, or hf://OWNER/REPO, instead of a run")
    parser.add_argument(
        "--weights",
        choices=("best", "last"),
        help="best by validation top-1, or last, as in the paper's tables; default: config.default_weights of the run",
    )


def add_images(parser: Parser) -> None:
    """Adds the images that a command reads, `images`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are searched for images")


def add_calibration_flags(parser: Parser) -> None:
    """Adds the flags that set the threshold for unknown characters."""
    parser.add_argument(
        "--false_accept_rate",
        type=float,
        help="share of the images of unknown characters that may be named; default: the share at the highest threshold "
        "that calls at most 5 %% of the validation images unknown",
    )
    parser.add_argument(
        "--unknown",
        nargs="+",
        default=[],
        metavar="IMAGE_OR_FOLDER",
        help="images of characters that the model does not know, to set the threshold; default: validation images, "
        "each compared with the other characters only",
    )
    parser.add_argument("--data_dir", help="folder of the data set; default: the folder used in training")


def add_detector_flags(parser: Parser) -> None:
    """Adds --detector and --min_confidence, for commands that read whole pictures."""
    parser.add_argument(
        "--detector",
        type=_not_empty,
        help="finds the heads on whole pictures: a file or an address of *.onnx or *.xml, or auto for the bundle's",
    )
    parser.add_argument(
        "--min_confidence", type=float, help="leave out heads below this, 0 to 1; default: the detector's own threshold"
    )


def _not_empty(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("it is empty; allowed: a file, an address or auto")
    return value


def check_detector_flags(args: argparse.Namespace) -> None:
    """Raises InputError for --min_confidence without --detector."""
    if args.min_confidence is not None and not args.detector:
        raise InputError(f"--min_confidence={args.min_confidence:g} is for --detector; give both")
