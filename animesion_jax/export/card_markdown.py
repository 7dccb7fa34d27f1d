"""Markdown without the markup of the texts in it."""

import re
from collections.abc import Sequence

from animesion_jax.errors import escape, shorten

# The longest text that a card shows, in characters.
MAX_TEXT = 80


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of cells that are Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows))


def percent(share: float) -> str:
    """Returns a fraction as a percentage."""
    return f"{100 * share:.1f} %"


def plain(text: str) -> str:
    """Returns a text of a bundle as one line of Markdown without markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!$~&])", r"\\\1", shorten(escape(text), MAX_TEXT))


def code(text: str) -> str:
    """Returns a text of a bundle as code in Markdown, also for a cell of a table."""
    return f"`{re.sub('[`|]', '_', shorten(escape(text), MAX_TEXT))}`"
