"""Fonts with a few letters, installed for one test."""

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

# A hieroglyph, which hardly any font has.
LETTER = "\U00013000"


def install(monkeypatch, folder: Path, **letters: str) -> None:
    """Makes matplotlib's own fonts and new ones the only installed fonts; `letters` has each one's, by its family.

    The letters are filled squares. Matplotlib has not listed the new fonts yet.
    """
    fonts = font_manager.fontManager
    own = [entry for entry in fonts.ttflist if "mpl-data" in str(entry.fname)]
    monkeypatch.setattr(fonts, "ttflist", own)
    for family, shown in letters.items():
        _write(folder / f"{family}.ttf", family, shown)
    paths = [str(folder / f"{family}.ttf") for family in letters]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)


def _write(path: Path, family: str, letters: str) -> None:
    pen = TTGlyphPen(None)
    for move, point in [(pen.moveTo, (0, 0)), (pen.lineTo, (0, 800)), (pen.lineTo, (800, 800)), (pen.lineTo, (800, 0))]:
        move(point)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
