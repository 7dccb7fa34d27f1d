"""README and docs: links, flags of commands, and configs with their overrides."""

import contextlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from PIL import Image

from animesion_jax.cli import COMMANDS
from animesion_jax.cli.build import parse_args as parse_build_args
from animesion_jax.main import main
from tests.conftest import ROOT
from tfds_builders.toyfaces.draw import write_new_faces

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/*.ipynb"))]
PAGES += sorted(ROOT.glob("tfds_builders/*/README.md"))
# The program, at the start of a command or after "(", "&&" or a quotation mark.
PROGRAM = re.compile(r"""(?:^|[(;"]|&& )\s*(?:python -m animesion_jax\.main|animesion)(?: +|$)""")
# Shell variables of the pages' loops.
VARIABLES = {"$model": "resnet18", "$seed": "0"}


def _text(page: Path) -> str:
    """Returns the Markdown of a page; of a notebook, that of its cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", _text(page), flags=re.DOTALL)


def _flags(text: str) -> list[str]:
    return re.findall(r"--\w+", text)


def _anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _code_lines(page: Path) -> Iterator[str]:
    """Yields the lines of a page's blocks of code, fenced or indented; a command in several lines is one."""
    is_fenced = False
    for line in _text(page).replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            yield line


def _commands(pages: Sequence[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yields (command, arguments) of every command of this program in a block of code."""
    for page in pages:
        for line in _code_lines(page):
            for variable, value in VARIABLES.items():
                line = line.replace(variable, value)
            if found := PROGRAM.search(line):
                after = line[found.end() :]
                # A command within quotes ends with the outer quote.
                after = after.removesuffix('"') if after.count('"') % 2 else after
                arguments = shlex.split(after, comments=True)
                is_named = arguments[0] in COMMANDS
                yield (arguments[0], arguments[1:]) if is_named else ("train", arguments)


DOCUMENTED = list(_commands(PAGES))


def test_links_lead_to_files_and_headings():
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
            name, _, anchor = target.partition("#")
            linked = (page.parent / name).resolve() if name else page
            if "://" not in target and not (linked.exists() and (not anchor or anchor in _anchors(linked))):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_pages_document_most_commands():
    assert {command for command, _ in DOCUMENTED} >= set(COMMANDS) - {"serve"}


@pytest.mark.parametrize("command", sorted({command for command, _ in DOCUMENTED}))
def test_help_has_every_documented_flag(command, capsys):
    with contextlib.suppress(SystemExit):
        main(["animesion", command, "--help"])
    known = {*_flags(capsys.readouterr().out), "--config"}
    used = {flag for name, arguments in DOCUMENTED if name == command for flag in _flags(" ".join(arguments))}
    assert used - known == set()


@pytest.mark.parametrize("arguments", [" ".join(arguments) for command, arguments in DOCUMENTED if command == "train"])
def test_documented_training_commands_parse(arguments, monkeypatch):
    from animesion_jax.cli.train import parse_args

    monkeypatch.chdir(ROOT)
    args = parse_args(arguments.split())
    assert args.config.model and args.workdir


@pytest.mark.parametrize("arguments", [" ".join(arguments) for command, arguments in DOCUMENTED if command == "build"])
def test_documented_data_sets_can_be_built(arguments, tmp_path, capsys):
    words = [word for word in arguments.split() if not word.startswith(("--manual_dir", "--data_dir"))]
    if words[0] == "toyfaces":
        assert parse_build_args(arguments.split()).num_shards == 4
    else:
        assert main(["animesion", "build", *words, f"--data_dir={tmp_path}"]) == 2
        assert f"{words[0]} needs --manual_dir=FOLDER" in capsys.readouterr().err


@pytest.fixture
def user_files(trained, calibrated, tmp_path, monkeypatch):
    """A current folder with the files that docs/label_my_collection.md names."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/mine").symlink_to(trained[0])
    shutil.copy(calibrated[0], "mine.msgpack")
    faces = write_new_faces(Path("IMAGES"), per_class=1)
    for face in faces[:3]:
        folder = Path("FOLDER", face.stem.partition("_")[0])
        folder.mkdir(parents=True)
        shutil.copy(face, folder)
    shutil.copytree("IMAGES", "miku")
    Image.open(faces[0]).save("face.jpg")


def test_commands_of_label_my_collection_run(user_files, capsys):
    commands = list(_commands([ROOT / "docs" / "label_my_collection.md"]))
    assert {name for name, _ in commands} >= {"predict", "calibrate", "evaluate", "enroll", "embed", "explain"}
    for name, arguments in commands:
        assert main(["animesion", name, *arguments]) == 0, (arguments, capsys.readouterr().err)
