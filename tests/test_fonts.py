"""Fonts of figures, on any machine: the only fonts are matplotlib's and those of the test."""

import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from animesion_jax.fonts import fonts_for
from tests.tiny_font import LETTER, install

OTHER = "\U00013001"


def _drawn(text):
    """Returns where a text has ink, (H, W) bool."""
    figure = Figure((2, 1), 100)
    figure.text(0.1, 0.3, text, fontsize=36, parse_math=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0] < 128


def test_texts_are_drawn_with_an_installed_font_that_has_their_letters(monkeypatch, tmp_path, caplog):
    install(monkeypatch, tmp_path, Squares=LETTER, Useless="a")
    with fonts_for(["plain", f"<{LETTER}>"]) as families:
        ink = _drawn(LETTER)
    assert families == ["sans-serif", "Squares"]
    # The letter is a square of 0.8 em, and an em is 36 points at 100 dots per inch.
    assert ink.sum() == pytest.approx((0.8 * 36 / 72 * 100) ** 2, rel=0.1)
    assert matplotlib.rcParams["font.family"] == ["sans-serif"] and not caplog.text


def test_few_fonts_are_taken_and_none_for_plain_text(monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, A=LETTER, B=LETTER + OTHER, C=OTHER)
    with fonts_for([LETTER, OTHER]) as families:
        assert families[-2:] == ["sans-serif", "B"]
    with fonts_for(["plain $x$ é"]) as families:
        assert families == ["sans-serif"]


def test_letters_in_no_font_give_one_line_that_says_what_to_install(monkeypatch, tmp_path, caplog):
    install(monkeypatch, tmp_path, Squares=LETTER)
    (tmp_path / "Squares.ttf").write_text("no font")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with fonts_for([LETTER, OTHER, "a\tb\u200d\ue000"]):
            assert _drawn(LETTER + "\t").any()
    assert not warned
    (record,) = caplog.records
    message = record.getMessage()
    assert f"has {LETTER} {OTHER}: " in message and "fonts-noto-cjk" in message and "\n" not in message
