"""README and docs: links, flags of commands, and configs with their overrides."""

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from animesion_jax.cli import COMMANDS
from animesion_jax.main import main
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("tfds_builders/*/README.md"))]
PROGRAM = "python -m animesion_jax.main "
# Shell variables of the pages' loops.
VARIABLES = {"$model": "resnet18", "$seed": "0"}


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def _flags(text: str) -> list[str]:
    return re.findall(r"--\w+", text)


def _anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Yields (command, arguments) of every `python -m animesion_jax.main` in a block of code."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for variable, value in VARIABLES.items():
            text = text.replace(variable, value)
        for line in text.splitlines():
            before, found, after = line.partition(PROGRAM)
            if found and "`" not in before:
                # A command within quotes ends with the outer quote.
                after = after.removesuffix('"') if after.count('"') % 2 else after
                arguments = shlex.split(after, comments=True)
                is_named = arguments[0] in COMMANDS
                yield (arguments[0], arguments[1:]) if is_named else ("train", arguments)


DOCUMENTED = list(_commands())


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
def test_help_has_every_documented_flag(command):
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main(["animesion", command, "--help"])
    known = {*_flags(text.getvalue()), "--config"}
    used = {flag for name, arguments in DOCUMENTED if name == command for flag in _flags(" ".join(arguments))}
    assert used - known == set()


@pytest.mark.parametrize("arguments", [" ".join(arguments) for command, arguments in DOCUMENTED if command == "train"])
def test_documented_training_commands_parse(arguments, monkeypatch):
    from animesion_jax.cli.train import parse_args

    monkeypatch.chdir(ROOT)
    args = parse_args(arguments.split())
    assert args.config.model and args.workdir
