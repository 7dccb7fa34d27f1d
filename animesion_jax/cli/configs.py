"""The command `configs`."""

import argparse
import ast
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from animesion_jax.cli.config_files import OWN, config_files, find_config, packaged_folder
from animesion_jax.cli.flags import make_parser
from animesion_jax.cli.weights_table import weights_table
from animesion_jax.errors import InputError, command, escape
from animesion_jax.files import creating, expand_home

# A command in a docstring; every line but the last ends with a backslash.
COMMAND = re.compile(r"^ {4}(?:animesion|python -m animesion_jax\.main) (?:.*\\\n)*.*$", re.MULTILINE)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed arguments of the command; `folder` is a path, or None."""
    parser = make_parser(
        "configs",
        "Lists the configs by name: those of the package and those in ./configs, which come first. With --copy, writes "
        "a copy of one, to edit. With --weights, lists the published weights that training can start from: "
        "--config=dafre_128:MODEL,pretrained=NAME.",
        "--copy=folder configs",
        compiles=False,
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--copy", metavar="NAME", help="config to copy into FOLDER")
    chosen.add_argument("--weights", action="store_true", help="list the published weights instead of the configs")
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER", help="folder of the copy; --config=NAME finds it in ./configs"
    )
    args = parser.parse_args(argv)
    if args.copy is None and args.folder is not None:
        parser.error(f"unexpected argument '{args.folder}'; allowed: with --copy=NAME")
    if args.copy is not None and not args.folder:
        parser.error("--copy=NAME needs a folder to write to, such as configs")
    return args


def main(argv: Sequence[str]) -> int:
    """Prints the names and the first lines of all configs or the published weights, or copies a config."""
    args = parse_args(argv)
    if args.copy is None:
        for line in weights_table() if args.weights else _table():
            print(line)
        return 0
    source = find_config(args.copy)
    path = Path(expand_home(args.folder)) / source.name
    text = _with_name(source.read_text(encoding="utf-8"), source.stem, _reference(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with creating(path) as fresh:
            fresh.write_text(text, encoding="utf-8")
    except FileExistsError as error:
        raise InputError(f"{path} exists already; edit it, or give another folder than {args.folder}") from error
    print(f"wrote {escape(str(path))}; edit it, then train with it:")
    print(_first_command(text) or f"    {command('', config=path, workdir=f'runs/{path.stem}')}")
    return 0


def _table() -> list[str]:
    """Returns a line per config: name, folder and the first line of its docstring, in columns."""
    packaged, own = config_files(packaged_folder()), config_files(OWN)
    # In a clone, both are the same files.
    own = {name: file for name, file in own.items() if not (name in packaged and file.samefile(packaged[name]))}
    rows = []
    for name in sorted({*packaged, *own}):
        if name in own:
            rows.append((name, f"{OWN}/", _first_line(own[name])))
        if name in packaged:
            hidden = f"(hidden by {own[name]}) " if name in own else ""
            rows.append((name, "package", hidden + _first_line(packaged[name])))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [escape(f"{name:{widths[0]}}  {folder:{widths[1]}}  {line}") for name, folder, line in rows]


def _first_line(file: Path) -> str:
    """Returns the first line of a file's docstring; "" without one."""
    try:
        docstring = ast.get_docstring(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError) as error:
        return f"(cannot be read: {error})"
    return docstring.partition("\n")[0] if docstring else ""


def _reference(path: Path) -> str:
    """Returns what --config takes for a file: its name in ./configs, else its path."""
    return path.stem if path.parent.resolve() == OWN.resolve() else str(path)


def _with_name(text: str, name: str, reference: str) -> str:
    """Returns the text of a config file whose commands name it by another reference."""
    return re.sub(rf"--config={name}(?=[:\s])", lambda _: f"--config={shlex.quote(reference)}", text)


def _first_command(text: str) -> str:
    """Returns the first command in a text, with its indent; "" without one."""
    found = COMMAND.search(text)
    return found.group() if found else ""
