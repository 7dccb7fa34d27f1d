"""The package as a whole; pyproject.toml's import-linter contracts hold who may import whom."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import setuptools

from tests.conftest import ROOT

PACKAGE = ROOT / "animesion_jax"
# Import the third parties, whose effects are not ours; then compare the process before and after our imports.
IMPORT_ALL = """
import contextlib, importlib, json, logging, os, sys, warnings

third_parties, ours = json.load(sys.stdin)
for name in third_parties:
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(name)
import jax

def state():
    loggers = [logging.root] + [each for each in logging.root.manager.loggerDict.values() if hasattr(each, "handlers")]
    return {
        **{f"environment {name}": value for name, value in os.environ.items()},
        **{f"handlers {each.name}": list(map(str, each.handlers)) for each in loggers if each.handlers},
        **{f"level {each.name}": each.level for each in loggers if each.level},
        **{f"jax {name}": str(value) for name, value in jax.config.values.items()},
        "path": list(sys.path),
        "backends": bool(jax._src.xla_bridge._backends),
    }

before = state()
for name in ours:
    importlib.import_module(name)
after = state()
print(json.dumps([name for name in before | after if before.get(name) != after.get(name)]))
"""


def _modules() -> dict[str, Path]:
    """Returns the path of every module of the package by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def _imported(path: Path) -> Iterator[str]:
    """Yields the names of the modules that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def _is_pmap(node: ast.AST) -> bool:
    """Returns whether a node is `jax.pmap` or imports `pmap`."""
    if isinstance(node, ast.ImportFrom):
        return any(alias.name == "pmap" for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr == "pmap"


def _depends_on_locale(call: ast.Call) -> bool:
    """Returns whether a call reads or writes text without naming its encoding."""
    keywords = {keyword.arg for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    if isinstance(call.func, ast.Attribute):  # path.open(mode), or another open(file), such as Pillow's
        name, modes = call.func.attr, call.args[:1]
    else:
        name, modes = getattr(call.func, "id", ""), call.args[1:2]
    mode = ast.literal_eval(modes[0]) if modes and isinstance(modes[0], ast.Constant) else None if modes else "r"
    reads = name == "open" and isinstance(mode, str) and set(mode) <= set("rwxat+")
    return reads or name in ("read_text", "write_text") or bool(keywords & {"text", "universal_newlines"})


def test_package_folder_has_at_most_25_entries():
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 25, sorted(entries)


def test_every_folder_with_modules_is_a_regular_package():
    """setuptools.find_packages leaves out folders without __init__.py, and so would the wheel."""
    found = set(setuptools.find_packages(str(ROOT), include=["animesion_jax*", "tfds_builders*"]))
    folders = {path.parent for room in ("animesion_jax", "tfds_builders") for path in (ROOT / room).rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} - found == set()


def test_pmap_is_named_in_two_modules():
    def names_pmap(path: Path) -> bool:
        return any(map(_is_pmap, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))

    callers = [name for name, path in _modules().items() if names_pmap(path)]
    assert callers == ["animesion_jax.distributed", "animesion_jax.training.steps"]


def test_no_module_imports_the_configs():
    """import-linter does not see them: setup.py installs configs/ as animesion_jax.configs."""
    folders = (PACKAGE, ROOT / "tfds_builders")
    statement = re.compile(r"\s*((from|import) (animesion_jax\.)?configs\b|from animesion_jax import (.+, )?configs\b)")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in folders
        for path in folder.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if statement.match(line)
    ]
    assert found == []


def test_text_files_and_pipes_name_their_encoding():
    """Otherwise Python uses the locale's encoding."""
    folders = ("animesion_jax", "tfds_builders", "configs", "benchmarks", ".ci")
    paths = [ROOT / "setup.py", *(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))]
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _depends_on_locale(node)
    ]
    assert found == []


def test_one_function_expands_the_home_folder():
    paths = [path for folder in (PACKAGE, ROOT / "tfds_builders") for path in folder.rglob("*.py")]
    assert [path.name for path in paths if "expanduser" in path.read_text(encoding="utf-8")] == ["files.py"]


def test_importing_every_module_changes_nothing_in_the_process():
    modules = _modules()
    imported = {name for path in modules.values() for name in _imported(path)}
    third_parties = sorted(name for name in imported if not name.startswith(("animesion_jax", "tfds_builders")))
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        input=json.dumps([third_parties, list(modules)]),
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []
