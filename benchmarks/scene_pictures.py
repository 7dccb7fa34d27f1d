"""Composes pictures of known heads: face crops, turned and partly covered, on drawn backgrounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from animesion_jax.preprocessing import Box

# Sides of a scene before it grows for heads that find no place, and of heads, in pixels.
SCENE_SIDES = (512, 1280)
HEAD_SIDES = (64, 256)
MAX_DEGREES = 20.0
# The crops end close to the face. Mirrored, they go on by a share of their side, which the edge of the mask fades out.
MIRRORED = 0.2
# The mask is |x|^n + |y|^n < 1, a square with round corners, blurred by a share of its side.
ROUNDNESS = 3
SOFTNESS = 0.05
# Shares of the heads: beside another one, whose edge it covers; covered by a shape.
BESIDE, UNDER_SHAPE = 0.2, 0.2
# Shares of a head's area that are covered by the other one, and by the shape.
COVERED_BESIDE = 0.05, 0.3
COVERED_BY_SHAPE = 0.1, 0.3
# Least distance of a head's centre from the scene's edge, in sides: all that is mirrored and turned is inside.
REACH = 0.91
PLACES = 100
NOBODY = -1


class Label(NamedTuple):
    """A head on a scene.

    Attributes:
      box: the square of the crop before it was turned, in pixels.
      character: name of its folder.
      source: the picture that the crop is from.
      side: of the crop, in pixels.
      degrees: counterclockwise.
      covered: share of its area under other heads and shapes.
    """

    box: Box
    character: str
    source: str
    side: int
    degrees: float
    covered: float


def source_of(crop: Path) -> str:
    """Returns the name of the picture that a crop is from."""
    return crop.name[:10]


def compose(
    random: np.random.Generator, crops: Sequence[Path], textures: Sequence[Path]
) -> tuple[Image.Image, list[Label]]:
    """Returns a scene with the crops, in their order from below to above, and their labels.

    Args:
      random: every choice is drawn from it.
      crops: square files FOLDER/CHARACTER/NAME, which become the heads.
      textures: crops whose corners may become the background.
    """
    sides = [int(side) for side in np.exp(random.uniform(*np.log(HEAD_SIDES), len(crops)))]
    size, centres = _places(random, sides)
    background = BACKGROUNDS[random.integers(len(BACKGROUNDS))]
    scene = background(random, size, textures)
    owners = np.full((size[1], size[0]), NOBODY)
    degrees = random.uniform(-MAX_DEGREES, MAX_DEGREES, len(crops))
    areas = []
    for number, crop in enumerate(crops):
        areas.append(_paste(scene, owners, number, crop, sides[number], degrees[number], centres[number]))
    for number, side in enumerate(sides):
        if random.random() < UNDER_SHAPE and np.sum(owners == number) == areas[number]:
            _cover(random, scene, owners, number, side, centres[number])
    labels = []
    for number, (crop, side, (x, y)) in enumerate(zip(crops, sides, centres, strict=True)):
        box = x - side // 2, y - side // 2, x - side // 2 + side, y - side // 2 + side
        covered = 1 - float(np.sum(owners == number)) / areas[number]
        labels.append(Label(box, crop.parent.name, source_of(crop), side, float(degrees[number]), covered))
    return scene, labels


def _places(random: np.random.Generator, sides: Sequence[int]) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Returns the width and height of a scene and the centres of heads that overlap little."""
    width, height = (int(side) for side in random.integers(*SCENE_SIDES, 2))
    while True:
        centres: list[tuple[int, int]] = []
        for side in sides:
            beside = bool(centres) and random.random() < BESIDE
            for _ in range(PLACES):
                reach = int(REACH * side)
                place = tuple(int(random.integers(reach, length - reach)) for length in (width, height))
                shares = [_overlap(place, side, *other) for other in zip(centres, sides, strict=False)]
                least, most = COVERED_BESIDE if beside else (0, 0)
                if least <= max(shares, default=0) <= most:
                    centres.append(place)
                    break
        if len(centres) == len(sides):
            return (width, height), centres
        width, height = int(width * 1.15), int(height * 1.15)


def _overlap(place: tuple[int, int], side: int, other: tuple[int, int], other_side: int) -> float:
    """Returns the share of another head's square that a head and what is mirrored around it cover, about."""
    own = (1 + 1.5 * MIRRORED) * side
    width, height = (
        max(0.0, min((own + other_side) / 2 - abs(a - b), own, other_side)) for a, b in zip(place, other, strict=True)
    )
    return width * height / other_side**2


def _paste(
    scene: Image.Image, owners: np.ndarray, number: int, crop: Path, side: int, degrees: float, centre: tuple[int, int]
) -> int:
    """Pastes a crop and marks its pixels in `owners`; returns their number."""
    with Image.open(crop) as image:
        inner = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
    more = int(MIRRORED * side)
    face = Image.fromarray(np.pad(inner, ((more, more), (more, more), (0, 0)), "reflect"))
    away = np.abs((np.arange(face.width) + 0.5) / face.width * 2 - 1) / (1 - 2 * SOFTNESS)
    inside = (away[:, None] ** ROUNDNESS + away[None] ** ROUNDNESS) < 1
    mask = Image.fromarray(np.uint8(inside * 255)).filter(ImageFilter.GaussianBlur(SOFTNESS * face.width))
    square = Image.new("L", face.size)
    square.paste(255, (more, more, more + side, more + side))
    face, mask, square = (each.rotate(degrees, Image.Resampling.BICUBIC, expand=True) for each in (face, mask, square))
    left, top = centre[0] - face.width // 2, centre[1] - face.height // 2
    scene.paste(face, (left, top), mask)
    own = owners[top : top + face.height, left : left + face.width]
    own[np.asarray(mask) > 127] = NOBODY
    own[np.asarray(square) > 127] = number
    return int(np.sum(own == number))


def _cover(
    random: np.random.Generator, scene: Image.Image, owners: np.ndarray, number: int, side: int, centre: tuple[int, int]
) -> None:
    """Draws a rectangle or an ellipse over an edge of a head, unless it would touch another head."""
    share = random.uniform(*COVERED_BY_SHAPE)
    turn = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])[random.integers(4)]
    middle = np.array(centre) + turn * side * (1 - share) / 2
    half = np.where(turn != 0, share / 2, random.uniform(0.4, 0.6)) * side
    is_ellipse = random.random() < 0.5
    if is_ellipse:
        # About the same area inside the head: an ellipse around the edge.
        middle, half = middle + turn * side * share / 2, np.where(turn != 0, half * 2.2, half)
    box = [float(value) for value in (*(middle - half), *(middle + half))]
    mask = Image.new("L", scene.size)
    draw = ImageDraw.Draw(mask)
    (draw.ellipse if is_ellipse else draw.rectangle)(box, fill=255)
    marked = np.asarray(mask) > 0
    if set(np.unique(owners[marked])) <= {NOBODY, number}:
        scene.paste(_colour(random), (0, 0), mask)
        owners[marked] = NOBODY


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(value) for value in random.integers(0, 256, 3))


def _gradient(random: np.random.Generator, size: tuple[int, int], _: Sequence[Path]) -> Image.Image:
    corners = np.array([[_colour(random), _colour(random)], [_colour(random), _colour(random)]], np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)


def _noise(random: np.random.Generator, size: tuple[int, int], _: Sequence[Path]) -> Image.Image:
    """Returns clouds: noise of several scales."""
    layers = []
    for cells in (3, 8, 24, 90):
        grid = Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8))
        layers.append(np.asarray(grid.resize(size, Image.Resampling.BICUBIC), np.float32))
    return Image.fromarray(np.uint8(np.average(layers, axis=0, weights=(4, 3, 2, 1))))


def _stripes(random: np.random.Generator, size: tuple[int, int], _: Sequence[Path]) -> Image.Image:
    colours = np.array([_colour(random) for _ in range(random.integers(2, 5))], np.uint8)
    direction, width = random.uniform(0, np.pi), random.uniform(12, 90)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    number = np.int64((x * np.cos(direction) + y * np.sin(direction)) // width)
    return Image.fromarray(colours[number % len(colours)])


def _texture(random: np.random.Generator, size: tuple[int, int], textures: Sequence[Path]) -> Image.Image:
    """Returns an upper corner of a crop, a quarter of its sides: hair or background, enlarged and blurred."""
    with Image.open(textures[random.integers(len(textures))]) as image:
        face = image.convert("RGB")
    width, height = face.width // 4, face.height // 4
    left = int(random.integers(2)) * (face.width - width)
    corner = face.crop((left, 0, left + width, height)).resize(size, Image.Resampling.BICUBIC)
    return corner.filter(ImageFilter.GaussianBlur(float(random.uniform(2, 12))))


def _shapes(random: np.random.Generator, size: tuple[int, int], textures: Sequence[Path]) -> Image.Image:
    """Returns ellipses, polygons and lines on one of the other backgrounds."""
    scene = BACKGROUNDS[random.integers(len(BACKGROUNDS) - 1)](random, size, textures)
    draw = ImageDraw.Draw(scene)
    for _ in range(random.integers(8, 40)):
        points = random.uniform(0, size, (random.integers(3, 6), 2))
        points = points[0] + (points - points[0]) * random.uniform(0.05, 0.4)
        flat = [float(value) for value in points.ravel()]
        kind = random.integers(3)
        if kind == 0:
            draw.ellipse([*points[:2].min(0).tolist(), *points[:2].max(0).tolist()], fill=_colour(random))
        elif kind == 1:
            draw.polygon(flat, fill=_colour(random))
        else:
            draw.line(flat, fill=_colour(random), width=int(random.integers(1, 12)))
    return scene


BACKGROUNDS = (_gradient, _noise, _stripes, _texture, _shapes)
