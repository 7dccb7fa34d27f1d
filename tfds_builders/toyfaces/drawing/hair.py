"""Hairstyles: hair behind the head, bangs and side locks."""

from collections.abc import Callable

import numpy as np

from tfds_builders.toyfaces.drawing.canvas import Canvas, ellipse, mirror, shade, tint
from tfds_builders.toyfaces.drawing.characters import Color

# Right halves of outlines from the crown down, in face units.
CAP = ((0, -1.42), (0.6, -1.32), (1.05, -0.9), (1.22, -0.3), (1.16, 0.4), (0.9, 0.8), (0, 0.9))
LONG = ((0, -1.42), (0.65, -1.3), (1.1, -0.85), (1.28, 0.0), (1.36, 1.0), (1.5, 2.0), (1.35, 2.9), (0.5, 2.7), (0, 2.8))
BOB = ((0, -1.44), (0.7, -1.32), (1.18, -0.8), (1.36, 0.0), (1.42, 0.7), (1.2, 1.22), (0.8, 1.1), (0, 1.1))
TAIL = ((1.05, -0.75), (1.55, -1.0), (1.95, -0.3), (2.0, 0.7), (1.72, 1.7), (1.5, 1.1), (1.3, 0.2))
PONYTAIL = ((0.3, -1.3), (1.0, -1.75), (1.75, -1.2), (2.0, -0.1), (1.75, 1.2), (1.5, 0.3), (1.2, -0.5), (0.7, -0.9))
LOCK = ((0.86, -0.6), (1.12, -0.2), (1.16, 0.5), (1.02, 1.15), (0.9, 0.6), (0.84, 0.0))


def both_halves(half: tuple) -> np.ndarray:
    """Returns the closed outline of a right half, whose first and last points lie on the symmetry axis."""
    points = np.asarray(half, float)
    return np.concatenate([points, mirror(points[1:-1])[::-1]])


def _cap(canvas: Canvas, color: Color) -> None:
    canvas.shape(both_halves(CAP), shade(color, 0.18), depth=0.2)


def _long(canvas: Canvas, color: Color) -> None:
    canvas.shape(both_halves(LONG), shade(color, 0.18), depth=0.1)


def _bob(canvas: Canvas, color: Color) -> None:
    canvas.shape(both_halves(BOB), shade(color, 0.18), depth=0.2)


def _twin_tails(canvas: Canvas, color: Color) -> None:
    for points in (TAIL, mirror(TAIL)):
        canvas.shape(points, shade(color, 0.1), depth=0.0)
    _cap(canvas, color)


def _ponytail(canvas: Canvas, color: Color) -> None:
    canvas.shape(PONYTAIL, shade(color, 0.1), depth=-0.1)
    _cap(canvas, color)


def _buns(canvas: Canvas, color: Color) -> None:
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.92, -1.2, 0.46, 0.44), shade(color, 0.08), depth=0.2)
        canvas.stroke([(side * 0.75, -1.3), (side * 0.95, -1.42), (side * 1.1, -1.2)], shade(color, 0.4), depth=0.2)
    _cap(canvas, color)


def _curly(canvas: Canvas, color: Color) -> None:
    for y in (1.75, 1.25, 0.75, 0.25, -0.3, -0.8):
        for side in (-1, 1):
            canvas.fill(ellipse(side * (1.12 + 0.14 * np.sin(4 * y)), y, 0.42, 0.38), shade(color, 0.15), depth=0.1)
    for x in (-0.7, 0.0, 0.7):
        canvas.fill(ellipse(x, -1.22, 0.46, 0.36), shade(color, 0.1), depth=0.2)
    _cap(canvas, color)


def _braids(canvas: Canvas, color: Color) -> None:
    _cap(canvas, color)
    for side in (-1, 1):
        for place, y in enumerate((2.35, 1.95, 1.55, 1.15, 0.8)):
            turn = side * (0.5 if place % 2 else -0.5)
            canvas.fill(ellipse(side * 1.06, y, 0.27, 0.25, turn), shade(color, 0.06), depth=0.0)


def _drills(canvas: Canvas, color: Color) -> None:
    _cap(canvas, color)
    for side in (-1, 1):
        for place, y in enumerate((2.1, 1.7, 1.3, 0.9, 0.5)):
            width = 0.2 + 0.08 * place
            canvas.fill(ellipse(side * 1.42, y, width, 0.27, side * 0.35), shade(color, 0.05), depth=0.0)


def _spiky(canvas: Canvas, color: Color) -> None:
    angles = np.linspace(0.85 * np.pi, 2.15 * np.pi, 17)
    radius = np.where(np.arange(17) % 2, 1.72, 1.2)
    spikes = np.stack([radius * np.cos(angles), -0.1 + radius * np.sin(angles)], 1)
    canvas.fill(np.concatenate([spikes, [(0.6, 0.8), (-0.6, 0.8)]]), shade(color, 0.12), depth=0.2)


STYLES: dict[str, Callable[[Canvas, Color], None]] = {
    "long": _long,
    "bob": _bob,
    "twin_tails": _twin_tails,
    "ponytail": _ponytail,
    "buns": _buns,
    "curly": _curly,
    "braids": _braids,
    "drills": _drills,
    "spiky": _spiky,
}

# Lower edges of the bangs, from the right temple to the left one.
BANGS = {
    "straight": (
        (0.93, -0.02), (0.72, -0.16), (0.36, -0.12), (0, -0.14), (-0.36, -0.12), (-0.72, -0.16), (-0.93, -0.02),
    ),
    "split": ((0.95, 0.08), (0.8, -0.3), (0.42, -0.62), (0, -0.95), (-0.42, -0.62), (-0.8, -0.3), (-0.95, 0.08)),
    "round": ((0.95, 0.1), (0.78, -0.26), (0.4, -0.46), (0, -0.52), (-0.4, -0.46), (-0.78, -0.26), (-0.95, 0.1)),
    "swept": ((0.95, -0.2), (0.7, -0.62), (0.3, -0.72), (-0.15, -0.5), (-0.5, -0.24), (-0.8, -0.02), (-0.97, 0.2)),
    "jagged": (
        (0.95, 0.1), (0.72, -0.5), (0.52, 0.0), (0.3, -0.52), (0.05, 0.02), (-0.2, -0.54),
        (-0.42, 0.0), (-0.66, -0.5), (-0.95, 0.1),
    ),
}  # fmt: skip
CROWN = ((-1.12, -0.4), (-0.98, -0.95), (-0.58, -1.32), (0, -1.44), (0.58, -1.32), (0.98, -0.95), (1.12, -0.4))


def draw_bangs(canvas: Canvas, bangs: str, color: Color) -> None:
    """Draws bangs, a key of `BANGS`, with strands and gloss."""
    edge = np.asarray(BANGS[bangs], float)
    outline = np.concatenate([CROWN, edge])
    if bangs == "jagged":
        canvas.fill(outline, color, depth=0.85)
    else:
        canvas.shape(outline, color, depth=0.85)
    for x, y in edge[1:-1]:
        strand = [(0.85 * x, y - 0.08), (0.72 * x, y - 0.35), (0.5 * x, y - 0.6)]
        canvas.stroke(strand, shade(color, 0.35), depth=0.85, line=0.6)
    gloss = [(-0.72, -0.88), (-0.35, -1.02), (0.05, -1.05), (0.42, -1.0), (0.75, -0.85)]
    canvas.stroke(gloss, tint(color, 0.6), depth=0.8, line=2.2)


def draw_locks(canvas: Canvas, color: Color) -> None:
    """Draws the side locks."""
    for points in (LOCK, mirror(LOCK)):
        canvas.shape(points, color, depth=0.6)
