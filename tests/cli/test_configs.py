"""The command `configs`, in a folder of a user's own."""

import ast
import re
import shlex
import subprocess
import sys

import pytest

from animesion_jax.cli.config_flags import load_config
from animesion_jax.main import main
from animesion_jax.models import FAMILIES
from animesion_jax.pretrained.sources import NAMED
from tests.conftest import ROOT

NAMES = ["common", "dafre_128", "dafre_224", "demo", "folder", "moeimouto_128", "moeimouto_224", "sweep_size"]
# Prints the table, and fails if it took a library that reads a config.
LIST = """
import sys
from animesion_jax.main import main
assert main(["animesion", "configs"]) == 0
heavy = {"jax", "ml_collections", "tensorflow", "flax", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _rows(capsys):
    assert main(["animesion", "configs"]) == 0
    return capsys.readouterr().out.splitlines()


def test_list_has_every_config_with_its_first_line_in_columns(capsys):
    rows = _rows(capsys)
    assert [row.split()[:2] for row in rows] == [[name, "package"] for name in NAMES]
    starts = {row.index("package") for row in rows}
    assert len(starts) == 1
    for name, row in zip(NAMES, rows, strict=True):
        docstring = ast.get_docstring(ast.parse((ROOT / "configs" / f"{name}.py").read_text(encoding="utf-8")))
        assert row.endswith("  " + docstring.splitlines()[0])


def test_list_shows_which_of_two_configs_wins(tmp_path, capsys):
    own = tmp_path / "configs"
    own.mkdir()
    (own / "demo.py").write_text('"""Mine."""\nfrom animesion_jax.configs.demo import get_config\n', encoding="utf-8")
    (own / "broken.py").write_text("def get_config(:\n", encoding="utf-8")
    (own / "latin.py").write_bytes(b'"""\xe9"""\ndef get_config(): pass\n')
    (own / "helper.py").write_text("EPOCHS = 3\n", encoding="utf-8")
    rows = {tuple(row.split()[:2]): row for row in _rows(capsys)}
    assert rows[("demo", "configs/")].endswith(" Mine.")
    assert "(hidden by configs/demo.py) The demo" in rows[("demo", "package")]
    for name in ("broken", "latin"):
        assert "(cannot be read: " in rows[(name, "configs/")]
    assert len(rows) == len(NAMES) + 3
    assert load_config("demo").dataset == "toyfaces"


def test_clone_lists_its_configs_once(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert [row.split()[0] for row in _rows(capsys)] == NAMES


def test_list_imports_neither_jax_nor_tensorflow_nor_ml_collections():
    result = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(NAMES)


def _weights(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["animesion", "configs", "--weights"]) == 0
    return capsys.readouterr().out.splitlines()


def test_weights_have_a_line_each_with_published_sizes(capsys, monkeypatch):
    header, *lines = _weights(capsys, monkeypatch, 200)
    table, notes = lines[: lines.index("")], lines[lines.index("") :]
    rows = {line.split()[0]: re.split(" {2,}", line) for line in table}
    assert list(rows) == list(NAMED) and re.split(" {2,}", header)[0] == "name"
    # The papers' counts without a classifier: 86 M and 307 M (arXiv:2010.11929 table 1), 11.7 M less 0.5 M.
    vit = ["google/imagenet21k/ViT-B_16", "vit_b16 *", "224 px", "86 M", "Apache-2.0", "ImageNet-21k"]
    assert rows["google/imagenet21k/ViT-B_16"] == vit
    assert rows["google/imagenet21k+imagenet2012/ViT-L_32"][1:4] == ["vit_l32", "384 px", "306 M"]
    assert rows["torchvision/resnet18"][1:5] == ["resnet18", "224 px", "11 M", "BSD-3-Clause"]
    assert rows["wd_vit_b16"][2:] == ["448 px", "86 M", "Apache-2.0", "5.7 M Danbooru images"]
    starts = {line.index(rows[name][4]) for name, line in zip(rows, table, strict=True)}
    assert starts == {header.index("licence")}
    assert any("wd_vit_b16, wd_vit_l16, wd_eva02_l14: trained on about 90 % of DAF:re's test" in each for each in notes)
    # One default per model that has published weights.
    defaults = {name for name, row in rows.items() if row[1].endswith(" *")}
    assert defaults == {weights for family in FAMILIES.values() for weights in family.weights.values()}


def test_weights_fit_a_terminal_of_80_columns(capsys, monkeypatch):
    lines = _weights(capsys, monkeypatch, 80)
    assert max(map(len, lines)) <= 80
    place = lines.index("wd_vit_b16")
    assert re.split(" {2,}", lines[place + 1].strip())[:2] == ["vit_b16", "448 px"]
    assert lines.index("torchvision/resnet152") == 2 * len(NAMED)


@pytest.mark.parametrize("folder", ["configs", "a b/c", "{tmp}/configs", "{tmp}/other"])
@pytest.mark.parametrize("name", NAMES)
def test_copy_runs_with_the_command_that_is_printed(name, folder, tmp_path, capsys):
    folder = folder.format(tmp=tmp_path)
    assert main(["animesion", "configs", f"--copy={name}", folder]) == 0
    first, *command = capsys.readouterr().out.splitlines()
    assert first == f"wrote {folder}/{name}.py; edit it, then train with it:"
    path = tmp_path / folder / f"{name}.py"
    text = path.read_text(encoding="utf-8")
    assert "\n".join(command) in text
    path.write_text(text.replace("return config", "config.epochs = 99; return config"), encoding="utf-8")
    program, *words = shlex.split("\n".join(command).replace("\\\n", ""))
    config = next(word.removeprefix("--config=") for word in words if word.startswith("--config="))
    assert program == "animesion"
    assert config.partition(":")[0] == (name if path.parent == tmp_path / "configs" else f"{folder}/{name}.py")
    if "return config\n" in text:
        assert load_config(config).epochs == 99
    else:
        load_config(config)


def test_copy_replaces_no_file(tmp_path, capsys):
    (tmp_path / "demo.py").write_text("mine", encoding="utf-8")
    assert main(["animesion", "configs", "--copy=demo", "."]) == 2
    assert capsys.readouterr().err == (
        "animesion configs: error: demo.py exists already; edit it, or give another folder than .\n"
    )
    assert (tmp_path / "demo.py").read_text(encoding="utf-8") == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--copy=nope", "x"], "no config 'nope'; allowed: common, dafre_128, "),
        (["--copy=demo"], "--copy=NAME needs a folder to write to, such as configs"),
        (["x"], "unexpected argument 'x'; allowed: with --copy=NAME"),
        (["--weights", "x"], "unexpected argument 'x'; allowed: with --copy=NAME"),
        (["--weights", "--copy=demo", "x"], "argument --copy: not allowed with argument --weights"),
        (["--copy=demo", "file/below"], "file/below"),
    ],
)
def test_bad_arguments_are_one_line_and_write_nothing(arguments, message, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["animesion", "configs", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
