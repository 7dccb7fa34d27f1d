"""Fails on modules and functions that are too long: `python .ci/check_sizes.py`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MODULE_LINES = {"animesion_jax": 250, "configs": 250, "tfds_builders": 250, "benchmarks": 250, "tests": 400}
MAX_FUNCTION_LINES = 60


def violations(path: Path, max_lines: int) -> Iterator[str]:
    """Yields a line for the module and for each of its functions that exceeds its limit."""
    name, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
    num_lines = len(text.splitlines())
    if num_lines > max_lines:
        yield f"{name}: {num_lines} lines; at most {max_lines}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = node.end_lineno - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {num_lines} lines; at most {MAX_FUNCTION_LINES}"


def main() -> int:
    """Prints all violations; returns 1 if there are any."""
    found = [
        line
        for folder, max_lines in MAX_MODULE_LINES.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in violations(path, max_lines)
    ]
    print("\n".join(found) or "All modules and functions are short enough.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
