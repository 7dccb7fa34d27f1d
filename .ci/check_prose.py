"""Fails on long sentences in Markdown, of notebooks too: `python .ci/check_prose.py README.md docs`.

A sentence ends at a full stop, question mark or exclamation mark, and with its paragraph or list item. Code blocks,
tables, headings and images do not count. Inline code and a link's text count; a link's address does not.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_WORDS = 25
LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s+")


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Yields (line number, text) of each paragraph and list item."""
    is_code, start, lines = False, 0, []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        skipped = is_code or is_fence or re.match(r"\s*(\||#|!\[|<|    )", line) or not line.strip()
        if (skipped or LIST_ITEM.match(line)) and lines:
            yield start, " ".join(lines)
            lines = []
        if not skipped:
            start = start if lines else number
            lines.append(LIST_ITEM.sub("", line, count=1) if LIST_ITEM.match(line) else line.strip())


def sentences(paragraph: str) -> list[str]:
    """Returns a paragraph's sentences, with links' addresses removed and inline code as one word."""
    plain = re.sub(r"\]\([^)]*\)", "]", paragraph)
    plain = re.sub(r"`[^`]*`", lambda code: re.sub(r"[\s.!?]", "_", code[0]), plain)
    return re.split(r"(?<=[.!?])[)\"*]*\s+", plain)


def count_words(sentence: str) -> int:
    """Returns the number of words: runs of characters with a letter or digit in them."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


def markdown(path: Path) -> str:
    """Returns the text of a Markdown file, or of the Markdown cells of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def long_sentences(path: Path) -> Iterator[str]:
    """Yields a line for each sentence of more than MAX_WORDS words; a notebook's lines are those of its Markdown."""
    for number, paragraph in paragraphs(markdown(path)):
        for sentence in sentences(paragraph):
            num_words = count_words(sentence)
            if num_words > MAX_WORDS:
                yield f"{path}:{number}: {num_words} words; at most {MAX_WORDS}: {sentence[:70]}..."


def main(argv: Sequence[str]) -> int:
    """Prints the long sentences of files, or of all Markdown and notebooks in folders; returns 1 if there are any."""
    roots = [Path(name) for name in argv]
    files = [
        file
        for root in roots
        for file in (sorted([*root.rglob("*.md"), *root.rglob("*.ipynb")]) if root.is_dir() else [root])
    ]
    found = [line for file in files for line in long_sentences(file)]
    print("\n".join(found) or f"All sentences of {len(files)} files have at most {MAX_WORDS} words.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
