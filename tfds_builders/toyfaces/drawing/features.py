"""The face: neck, shoulders, head, eyes, brows, nose and mouth."""

import dataclasses

import numpy as np

from tfds_builders.toyfaces.drawing.canvas import Canvas, ellipse, mirror, mix, shade, tint
from tfds_builders.toyfaces.drawing.characters import Character, Color

WHITE: Color = (255, 255, 255)
HEAD = ((0, -1.1), (0.72, -0.85), (0.99, -0.2), (0.95, 0.32), (0.7, 0.74), (0.3, 1.02), (0, 1.12))
TOP = ((0.34, 1.5), (0.95, 1.72), (1.5, 1.95), (1.85, 2.5), (2.0, 3.6))
EYE_X, EYE_Y, EYE_HALF_WIDTH = 0.47, 0.16, 0.31


@dataclasses.dataclass(frozen=True)
class Expression:
    """The expression of one image."""

    mouth: str  # key of MOUTHS
    opening: float  # height of the open eye in face units, about 0.35 .. 0.6
    gaze: tuple[float, float]  # offset of the irises in face units
    brow: float  # inner end of the brows down (angry, positive) or up (worried, negative)
    blush: float  # 0 .. 1


def draw_body(canvas: Canvas, skin: Color, top: Color) -> None:
    """Draws neck and shoulders in clothes of colour `top`."""
    canvas.fill([(-0.33, 0.7), (0.33, 0.7), (0.4, 1.9), (-0.4, 1.9)], shade(skin, 0.12), depth=0.1)
    half = np.asarray(TOP)
    canvas.fill(np.concatenate([half, mirror(half)[::-1]]), top, depth=-0.3)
    canvas.fill([(-0.36, 1.46), (0.36, 1.46), (0, 2.0)], skin, depth=-0.1, line=0.6)
    for side in (-1, 1):
        collar = [(side * 0.34, 1.42), (side * 0.62, 1.6), (side * 0.4, 2.1), (0, 1.98)]
        canvas.fill(collar, tint(top, 0.55), depth=-0.2, line=0.8)


def draw_head(canvas: Canvas, skin: Color, blush: float) -> None:
    """Draws ears and the outline of the face, with blushing cheeks."""
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.98, 0.22, 0.16, 0.27, -side * 0.2), skin, depth=0.0)
        canvas.fill(ellipse(side * 0.99, 0.24, 0.08, 0.16, -side * 0.2), shade(skin, 0.14), depth=0.0, line=0)
    half = np.asarray(HEAD)
    canvas.shape(np.concatenate([half, mirror(half[1:-1])[::-1]]), skin, depth=0.55)
    for side in (-1, 1):
        flush = mix(skin, (246, 120, 120), 0.12 + 0.35 * blush)
        canvas.fill(ellipse(side * 0.62, 0.56, 0.2, 0.1), flush, depth=0.8, line=0)


def draw_eyes(canvas: Canvas, character: Character, expression: Expression) -> None:
    """Draws both eyes; the lids clip the irises."""
    for side in (-1, 1):
        _draw_eye(canvas, side, character, expression)


def _draw_eye(canvas: Canvas, side: int, character: Character, expression: Expression) -> None:
    opening = expression.opening
    middle = EYE_Y + 0.5 * (0.6 - opening)  # a half-closed lid sinks

    def lids(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = np.clip((x - side * EYE_X) * side / EYE_HALF_WIDTH, -1, 1)  # -1 inner, 1 outer corner
        tilt = character.eye_tilt * (0.5 + 0.5 * u)
        arch = (1 - np.abs(u) ** 2.6) ** 0.6
        return middle + tilt - 0.56 * opening * arch, middle + tilt + 0.44 * opening * arch

    def within_lids(outline: np.ndarray) -> np.ndarray:
        upper, lower = lids(outline[:, 0])
        return np.stack([outline[:, 0], np.clip(outline[:, 1], upper, lower)], 1)

    x = side * (EYE_X + EYE_HALF_WIDTH * np.linspace(-1, 1, 15))
    upper, lower = lids(x)
    canvas.fill(np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]]), WHITE, line=0)

    ix, iy = side * (EYE_X - 0.02) + expression.gaze[0], middle - 0.02 + expression.gaze[1]
    iris = character.eyes
    for outline, color in (
        (ellipse(ix, iy, 0.235, 0.315), shade(iris, 0.6)),
        (ellipse(ix, iy + 0.02, 0.205, 0.28), iris),
        (ellipse(ix, iy - 0.13, 0.19, 0.15), shade(iris, 0.4)),
        (ellipse(ix, iy + 0.16, 0.13, 0.09), tint(iris, 0.45)),
        (ellipse(ix, iy + 0.01, 0.085, 0.125), shade(iris, 0.85)),
        (ellipse(ix - 0.09, iy - 0.13, 0.08, 0.09), WHITE),
        (ellipse(ix + 0.1, iy + 0.12, 0.04, 0.045), WHITE),
    ):
        canvas.fill(within_lids(outline), color, line=0)
    _draw_lashes(canvas, side, x, upper, lower, shade(mix(character.hair, (60, 30, 40), 0.75), 0.5))


def _draw_lashes(canvas: Canvas, side: int, x: np.ndarray, upper: np.ndarray, lower: np.ndarray, ink: Color) -> None:
    """Draws a heavy upper lid with a wing, a thin lower lid and the crease above; arrays are (n,)."""
    weight = 0.05 + 0.06 * np.linspace(0, 1, len(x))
    below = np.stack([x, upper + 0.02], 1)
    above = np.stack([x, upper - weight], 1)
    wing = [(x[-1] + side * 0.1, upper[-1] - 0.1)]
    canvas.fill(np.concatenate([below, wing, above[::-1]]), ink, line=0)
    canvas.stroke(np.stack([x, lower], 1)[5:], ink, line=0.8)
    canvas.stroke(np.stack([x, upper - 0.15], 1)[3:-2:3], mix(ink, (220, 150, 130), 0.4), line=0.5)


def draw_nose(canvas: Canvas, skin: Color) -> None:
    """Draws the nose as a small shadow."""
    canvas.fill([(-0.05, 0.54), (0.05, 0.54), (0.0, 0.6)], shade(skin, 0.4), depth=1.3, line=0)


def draw_mouth(canvas: Canvas, expression: Expression) -> None:
    """Draws the mouth of the expression."""
    lip, inside = (150, 60, 66), (190, 66, 76)
    points = np.asarray(MOUTHS[expression.mouth], float)
    if expression.mouth in ("laugh", "oh"):
        canvas.shape(points, inside, depth=1.0, line=0.9)
        canvas.fill(ellipse(0, points[:, 1].max() - 0.05, 0.09, 0.04), (240, 130, 130), line=0)
    else:
        canvas.stroke(points, lip, line=1.1)


def draw_brows(canvas: Canvas, hair: Color, brow: float) -> None:
    """Draws the brows."""
    for side in (-1, 1):
        inner, outer = (side * 0.24, -0.3 + brow), (side * 0.72, -0.28)
        canvas.stroke([inner, (side * 0.5, -0.39 + 0.4 * brow), outer], shade(hair, 0.5), line=1.4)


MOUTHS = {
    "smile": ((-0.17, 0.76), (0, 0.83), (0.17, 0.76)),
    "flat": ((-0.11, 0.8), (0, 0.79), (0.11, 0.8)),
    "pout": ((-0.12, 0.83), (0, 0.77), (0.12, 0.83)),
    "cat": ((-0.2, 0.76), (-0.1, 0.82), (0, 0.76), (0.1, 0.82), (0.2, 0.76)),
    "laugh": ((-0.22, 0.73), (0, 0.76), (0.22, 0.73), (0.14, 0.92), (0, 0.97), (-0.14, 0.92)),
    "oh": ((0, 0.74), (0.08, 0.82), (0, 0.9), (-0.08, 0.82)),
}
