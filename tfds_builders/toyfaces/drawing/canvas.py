"""A canvas in face units: draws posed, jittered, supersampled outlines on a Pillow image."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from tfds_builders.toyfaces.drawing.characters import Color

Points = Sequence[Sequence[float]] | np.ndarray

SUPERSAMPLING = 4


@dataclasses.dataclass(frozen=True)
class Pose:
    """Position and orientation of the head.

    Face units: half the width of the face is 1, the origin lies between eyes and nose, x grows to the right and y
    downwards. `affine` (2, 3) maps them to fractions of the image side.
    """

    affine: np.ndarray
    yaw: float  # -1 .. 1, turn to the right of the image
    pitch: float  # -1 .. 1, bend downwards
    line_width: float  # of outlines, as a fraction of the image side
    jitter: float  # of control points, in face units


def mix(color: Color, other: Color, amount: float) -> Color:
    """Returns `color` moved towards `other` by `amount` in 0..1."""
    return tuple(round(a + (b - a) * amount) for a, b in zip(color, other, strict=True))


def shade(color: Color, amount: float = 0.25) -> Color:
    """Returns a darker, slightly violet `color`."""
    return mix(color, (56, 26, 72), amount)


def tint(color: Color, amount: float = 0.4) -> Color:
    """Returns a lighter `color`."""
    return mix(color, (255, 255, 255), amount)


def mirror(points: Points) -> np.ndarray:
    """Returns `points` (n, 2) reflected left to right."""
    return np.asarray(points, float) * (-1.0, 1.0)


def smooth(points: Points, closed: bool = True, steps: int = 7) -> np.ndarray:
    """Returns a Catmull-Rom curve (m, 2) through the control points (n, 2)."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    p0, p1, p2, p3 = (p[i : len(p) - 3 + i, None] for i in range(4))
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, steps: int = 28) -> np.ndarray:
    """Returns the outline (steps, 2) of an ellipse turned by `turn` radians."""
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    px, py = rx * np.cos(angles), ry * np.sin(angles)
    return np.stack([x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)], 1)


class Canvas:
    """Draws shapes in face units; `depth` is the distance in front of the neck."""

    def __init__(self, image: Image.Image, pose: Pose, rng: np.random.Generator):
        self._draw = ImageDraw.Draw(image)
        self._side = image.width
        self._pose = pose
        self._rng = rng

    def fill(self, outline: Points, color: Color, depth: float = 1.0, line: float = 1.0) -> None:
        """Fills a closed outline (n, 2) and strokes it in a dark shade; `line` scales the stroke, 0 draws none."""
        pixels = self._pixels(outline, depth)
        self._draw.polygon(pixels, fill=color)
        if line:
            self._stroke([*pixels, pixels[0]], shade(color, 0.62), line)

    def shape(self, points: Points, color: Color, depth: float = 1.0, line: float = 1.0) -> None:
        """Fills the smooth closed curve through the control points (n, 2)."""
        points = np.asarray(points, float)
        self.fill(smooth(points + self._rng.normal(0, self._pose.jitter, points.shape)), color, depth, line)

    def stroke(self, points: Points, color: Color, depth: float = 1.0, line: float = 1.0) -> None:
        """Strokes the smooth open curve through the control points (n, 2)."""
        self._stroke(self._pixels(smooth(points, closed=False), depth), color, line)

    def _stroke(self, pixels: list, color: Color, line: float) -> None:
        width = max(1, round(line * self._pose.line_width * self._side))
        self._draw.line(pixels, fill=color, width=width, joint="curve" if width > 5 else None)

    def _pixels(self, points: Points, depth: float) -> list[tuple[float, float]]:
        """Returns pixel coordinates: turns the head, which moves shapes by their depth, then places it."""
        points = np.asarray(points, float)
        bulge = np.clip(1.2 - 0.5 * points[:, 0] ** 2, 0.2, 1.2)  # the cheeks move less than the nose
        turned = points + np.stack(
            [0.16 * self._pose.yaw * depth * bulge, np.full(len(points), 0.09 * self._pose.pitch * depth)], 1
        )
        placed = turned @ self._pose.affine[:, :2].T + self._pose.affine[:, 2]
        return list(map(tuple, (placed * self._side).tolist()))
