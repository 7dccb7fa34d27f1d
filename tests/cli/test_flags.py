import pytest

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import make_parser
from animesion_jax.cli.train import parse_args
from animesion_jax.errors import InputError
from animesion_jax.main import main, split_command
from tests.conftest import ROOT

CONFIG = f"--config={ROOT / 'configs' / 'dafre_128.py'}:vit_s16"


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["animesion"], ("train", [])),
        (["animesion", "--help"], ("train", ["--help"])),
        (["animesion", "--config=c.py", "x"], ("train", ["--config=c.py", "x"])),
        (["animesion", "predict", "--top_k=1"], ("predict", ["--top_k=1"])),
    ],
)
def test_train_is_the_default_command(argv, command):
    assert split_command(argv) == command


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
        (["--config.epochs=3", "many"], "unexpected argument 'many'"),
        (["many"], "unexpected argument 'many'"),
        (["--epochs=3"], "unrecognized arguments: --epochs=3"),
    ],
)
def test_train_names_unknown_arguments(argv, message):
    with pytest.raises(InputError, match=f"{message}.*; see animesion train --help"):
        parse_args([CONFIG, "--workdir=w", *argv])


@pytest.mark.parametrize("epochs", [["--config.epochs=3"], ["--config.epochs", "3"]])
def test_flags_may_have_their_values_in_the_next_argument(epochs):
    args = parse_args([*CONFIG.split("=", 1), *epochs, "--workdir", "w"])
    assert (args.config.epochs, args.workdir) == (3, "w")


def test_train_arguments_hold_the_config_with_its_overrides():
    args = parse_args([CONFIG, "--workdir=w", "--config.batch_size=256", "--config.skip_broken"])
    assert (args.config.model, args.config.batch_size, args.config.dataset) == ("vit_s16", 256, "dafre/released")
    assert (args.config.epochs, args.config.skip_broken, args.workdir) == (50, True, "w")
    assert (args.accept_changes, args.distributed, args.process_id) == (False, False, None)


def test_parser_suggests_the_nearest_flag_before_a_missing_one():
    parser = make_parser("fly", "Flies.", "--height=3")
    parser.add_argument("--height", required=True)
    with pytest.raises(InputError, match=r"--hight=3, did you mean --height\?; see animesion fly --help"):
        parser.parse_args(["--hight=3"])
    with pytest.raises(InputError, match="required: --height; see animesion fly --help"):
        parser.parse_args([])
