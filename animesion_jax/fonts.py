"""Fonts for figures: matplotlib's own font lacks the letters of many characters' names."""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

# Most letters that a message names.
SHOWN = 10


@contextlib.contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[list[str]]:
    """Selects installed fonts that have the letters of the texts; draw and save figures inside the block.

    If no font has a letter, logs one line with the package to install and silences matplotlib's warnings.

    Yields:
      The font families: matplotlib's own, then as few others as possible.
    """
    import matplotlib

    # Fonts have no control characters and no formatting characters.
    letters = {letter for text in texts for letter in text if letter.isprintable() and letter != " "}
    families, lacking = find_families(frozenset(letters))
    if lacking:
        log.warning(
            "no installed font has %s%s: the figures show boxes. Install a font that does, such as the package "
            "fonts-noto-cjk (Chinese, Japanese, Korean), fonts-noto-core (other scripts) or fonts-symbola (emoji)",
            " ".join(sorted(lacking)[:SHOWN]),
            f" and {len(lacking) - SHOWN} more letters" if len(lacking) > SHOWN else "",
        )
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield families


def find_families(letters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Returns families that together have as many of the letters as possible, and the letters that none has.

    The families begin with matplotlib's own; others follow only if they add letters.
    """
    import matplotlib

    families = list(matplotlib.rcParams["font.family"])
    lacking = letters.difference(*map(_letters_of, families))
    has = {family: lacking & _letters_of(family) for family in _installed_families()} if lacking else {}

    def rank(family: str) -> tuple[int, bool]:
        # Prefer fonts without serifs, like matplotlib's own.
        return len(has[family] & lacking), "Sans" in family

    while has and has[best := max(has, key=rank)] & lacking:
        families.append(best)
        lacking -= has[best]
    return families, lacking


def _installed_families() -> list[str]:
    """Returns the family of every font file, including those installed after matplotlib built its cache."""
    from matplotlib import font_manager

    fonts = font_manager.fontManager
    for path in sorted(set(font_manager.findSystemFonts()) - {str(entry.fname) for entry in fonts.ttflist}):
        # Skip fonts that matplotlib cannot read: damaged ones, and some others, such as coloured emoji.
        with contextlib.suppress(Exception):
            fonts.addfont(path)
    # The first family of a collection is the most common one, such as the Japanese one of Noto CJK.
    first = {}
    for entry in fonts.ttflist:
        first.setdefault(entry.fname, entry.name)
    # Leave out the "Last Resort" fonts of matplotlib and macOS, which have boxes for all letters.
    return sorted({family for family in first.values() if not re.search("Last ?Resort", family)})


def _letters_of(family: str) -> set[str]:
    """Returns the letters of the font that matplotlib uses for a family."""
    from matplotlib import font_manager

    properties = font_manager.FontProperties(family=[family])
    path = font_manager.fontManager.findfont(properties, fallback_to_default=False, rebuild_if_missing=False)
    return set(map(chr, font_manager.get_font(path).get_charmap()))
