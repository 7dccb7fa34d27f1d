import io
import sys

import pytest
from PIL import Image

import animesion_jax
from animesion_jax.cli import COMMANDS
from animesion_jax.cli.flags import make_parser, use_utf8_output
from animesion_jax.cli.train import parse_args
from animesion_jax.detection import load_detector
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
    assert f"example:\n  animesion {command} " in printed


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_version_needs_no_other_flag(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["animesion", *command, "--version"])
    assert not stop.value.code
    assert capsys.readouterr().out == f"animesion_jax {animesion_jax.__version__}\n"


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


def test_use_utf8_output_prints_utf8_in_any_locale(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    use_utf8_output()
    print("é か \udce9", flush=True)
    assert stdout.buffer.getvalue() == "é か \\udce9\n".encode()


@pytest.mark.parametrize("command", ["embed --output=e.npz", "enroll --name=x --output=b.msgpack", "explain"])
def test_min_confidence_needs_a_detector(command, bundle_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("face.png")
    words = [*command.split(), f"--bundle={bundle_path}", "face.png"]
    assert main(["animesion", *words, "--min_confidence=0.5"]) == 2
    assert "--min_confidence=0.5 is for --detector; give both" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan"])
def test_min_confidence_is_from_0_to_1(value):
    with pytest.raises(InputError, match=f"min_confidence is {value}; allowed: 0 to 1"):
        load_detector("absent.xml", float(value))
