import pytest

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import make_parser, split_overrides
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
    ("argv", "overrides", "others"),
    [
        (["--config=a", "--config.x=1", "--workdir=w"], ["--config.x=1"], ["--config=a", "--workdir=w"]),
        (["--config", "a", "--config.x", "1", "b"], ["--config.x=1"], ["--config", "a", "b"]),
        (["--config.x", "--workdir", "w"], ["--config.x"], ["--workdir", "w"]),
        (["--noconfig.x", "--config.y=2", "b"], ["--noconfig.x", "--config.y=2"], ["b"]),
    ],
)
def test_overrides_are_split_from_other_flags(argv, overrides, others):
    assert split_overrides(argv) == (overrides, others)


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
