"""Accessories, drawn behind or in front of the bangs."""

from collections.abc import Callable

import numpy as np

from tfds_builders.toyfaces.drawing.canvas import Canvas, ellipse, mirror, shade, tint
from tfds_builders.toyfaces.drawing.characters import Color


def _bow_at(canvas: Canvas, x: float, y: float, size: float, color: Color) -> None:
    for side in (-1, 1):
        wing = [
            (x, y),
            (x + side * size, y - 0.7 * size),
            (x + side * 1.15 * size, y),
            (x + side * size, y + 0.7 * size),
        ]
        canvas.shape(wing, color, depth=0.7)
    canvas.fill(ellipse(x, y, 0.28 * size, 0.3 * size), tint(color, 0.3), depth=0.75)


def _ribbons(canvas: Canvas, color: Color) -> None:
    for side in (-1, 1):
        _bow_at(canvas, side * 1.12, -0.82, 0.42, color)


def _bow(canvas: Canvas, color: Color) -> None:
    _bow_at(canvas, 0.55, -1.3, 0.52, color)


def _hairpin(canvas: Canvas, color: Color) -> None:
    for y in (-0.55, -0.36):
        canvas.fill([(-0.95, y), (-0.45, y - 0.08), (-0.43, y + 0.05), (-0.93, y + 0.13)], color, depth=0.95)


def _choker(canvas: Canvas, color: Color) -> None:
    canvas.fill([(-0.38, 1.2), (0.38, 1.2), (0.39, 1.42), (-0.39, 1.42)], color, depth=0.1)
    canvas.fill(ellipse(0, 1.46, 0.12, 0.14), (250, 214, 90), depth=0.15)


def _headphones(canvas: Canvas, color: Color) -> None:
    canvas.stroke([(-1.18, 0.1), (-1.1, -0.9), (0, -1.55), (1.1, -0.9), (1.18, 0.1)], color, depth=0.5, line=4.5)
    for side in (-1, 1):
        canvas.fill(ellipse(side * 1.17, 0.15, 0.26, 0.4), color, depth=0.5)
        canvas.fill(ellipse(side * 1.2, 0.15, 0.14, 0.24), tint(color, 0.5), depth=0.5, line=0.6)


def _beret(canvas: Canvas, color: Color) -> None:
    canvas.shape(
        [(-1.1, -0.75), (-1.3, -1.25), (-0.5, -1.85), (0.6, -1.75), (1.15, -1.2), (0.95, -0.85)], color, depth=0.6
    )
    canvas.fill(ellipse(-0.1, -1.84, 0.1, 0.14), shade(color, 0.3), depth=0.5)


def _cat_ears(canvas: Canvas, color: Color) -> None:
    for side in (-1, 1):
        canvas.fill([(side * 0.3, -1.25), (side * 0.85, -2.05), (side * 1.12, -0.85)], color, depth=0.4)
        canvas.fill([(side * 0.48, -1.28), (side * 0.82, -1.8), (side * 1.0, -1.0)], (250, 170, 180), depth=0.4, line=0)


def _eyepatch(canvas: Canvas, color: Color) -> None:
    canvas.stroke([(-1.1, -0.35), (-0.2, -0.1), (1.1, 0.4)], color, depth=0.95, line=1.5)
    canvas.shape([(0.12, -0.12), (0.84, -0.2), (0.86, 0.3), (0.48, 0.6), (0.12, 0.34)], color, depth=1.0)


def _halo(canvas: Canvas, color: Color) -> None:
    ring = ellipse(0, -1.75, 0.85, 0.25)
    canvas.stroke(np.concatenate([ring, ring[:2]]), color, depth=0.3, line=3.5)


def _flower(canvas: Canvas, color: Color) -> None:
    for angle in np.linspace(0, 2 * np.pi, 5, endpoint=False):
        canvas.fill(ellipse(-0.82 + 0.22 * np.cos(angle), -0.8 + 0.22 * np.sin(angle), 0.19, 0.17), color, depth=0.9)
    canvas.fill(ellipse(-0.82, -0.8, 0.13, 0.13), (246, 204, 70), depth=0.95)


def _glasses(canvas: Canvas, color: Color) -> None:
    for side in (-1, 1):
        ring = ellipse(side * 0.48, 0.18, 0.42, 0.4)
        canvas.stroke(np.concatenate([ring, ring[:2]]), color, depth=1.1, line=1.7)
        canvas.stroke([(side * 0.88, 0.1), (side * 1.05, 0.02)], color, depth=0.9, line=1.7)
    canvas.stroke([(-0.08, 0.14), (0, 0.1), (0.08, 0.14)], color, depth=1.1, line=1.7)


def _headband(canvas: Canvas, color: Color) -> None:
    band = np.asarray([(-1.12, -0.38), (-0.6, -0.74), (0, -0.84), (0.6, -0.74), (1.12, -0.38)])
    canvas.shape(np.concatenate([band, (band - np.asarray([0, 0.26]))[::-1]]), color, depth=0.88)


def _tiara(canvas: Canvas, color: Color) -> None:
    gold = (250, 212, 92)
    canvas.fill(
        [(-0.7, -1.1), (-0.78, -1.6), (-0.35, -1.35), (0, -1.9), (0.35, -1.35), (0.78, -1.6), (0.7, -1.1)], gold, 0.7
    )
    canvas.fill(ellipse(0, -1.4, 0.14, 0.17), color, depth=0.75)


def _horns(canvas: Canvas, color: Color) -> None:
    horn = np.asarray([(0.38, -1.15), (0.62, -1.5), (0.62, -2.1), (0.95, -1.6), (0.92, -1.0)])
    for points in (horn, mirror(horn)):
        canvas.shape(points, color, depth=0.45)


# Drawn first, so that the bangs cover them in part.
BEHIND_BANGS: dict[str, Callable[[Canvas, Color], None]] = {
    "cat_ears": _cat_ears,
    "choker": _choker,
    "eyepatch": _eyepatch,
    "glasses": _glasses,
    "halo": _halo,
    "horns": _horns,
}
IN_FRONT_OF_BANGS: dict[str, Callable[[Canvas, Color], None]] = {
    "beret": _beret,
    "bow": _bow,
    "flower": _flower,
    "hairpin": _hairpin,
    "headband": _headband,
    "headphones": _headphones,
    "ribbons": _ribbons,
    "tiara": _tiara,
}
