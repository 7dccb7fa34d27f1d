import pytest

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import make_parser
from animesion_jax.cli.train import parse_args
from animesion_jax.errors import InputError
from animesion_jax.main import main
from tests.conftest import ROOT

CONFIG = f"--config={ROOT / 'configs' / 'dafre_128.py'}:vit_s16"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_flags_and_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["animesion", command, "--help"])
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert f"usage: animesion {command} " in printed and "--help" in printed
    assert f"example:\n  python -m animesion_jax.main {command} " in printed


def test_help_of_train_names_the_other_commands(capsys):
    with pytest.raises(SystemExit):
        main(["animesion", "--help"])
    printed = capsys.readouterr().out
    assert all(command in printed for command in COMMANDS)
    assert "--config.FIELD VALUE" in printed and "--process_id I" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["many"], "unexpected argument 'many'"),
        (["--epochs=3"], "unrecognized arguments: --epochs=3"),
    ],
)
def test_train_names_unknown_arguments(argv, message):
    with pytest.raises(InputError, match=f"{message}.*; see animesion train --help"):
        parse_args([CONFIG, "--workdir=w", *argv])


def test_flags_may_have_their_values_in_the_next_argument():
    args = parse_args([*CONFIG.split("=", 1), "--config.epochs", "3", "--workdir", "w"])
    assert (args.config.epochs, args.workdir) == (3, "w")


def test_parser_suggests_the_nearest_flag_before_a_missing_one():
    parser = make_parser("fly", "Flies.", "--height=3")
    parser.add_argument("--height", required=True)
    with pytest.raises(InputError, match=r"--hight=3, did you mean --height\?; see animesion fly --help"):
        parser.parse_args(["--hight=3"])
    with pytest.raises(InputError, match="required: --height; see animesion fly --help"):
        parser.parse_args([])
