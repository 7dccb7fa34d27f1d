"""Images of a character with random pose, expression, light, background and noise."""

import numpy as np
from PIL import Image

from tfds_builders.toyfaces.drawing import accessories, features, hair
from tfds_builders.toyfaces.drawing.canvas import SUPERSAMPLING, Canvas, Pose
from tfds_builders.toyfaces.drawing.characters import CHARACTERS

# Part of every random seed; change it for another data set.
VERSION_SEED = 1
# Side of an image in pixels.
SIZE = 128


def draw_image(class_id: int, index: int) -> Image.Image:
    """Returns image `index` of a character, (SIZE, SIZE) RGB; deterministic on every machine."""
    character, rng = CHARACTERS[class_id], np.random.default_rng((VERSION_SEED, class_id, index))
    image = _background(rng, SIZE * SUPERSAMPLING)
    canvas = Canvas(image, _pose(rng), rng)
    expression = features.Expression(
        mouth=str(rng.choice(list(features.MOUTHS))),
        opening=rng.uniform(0.4, 0.62),
        gaze=(rng.uniform(-0.07, 0.07), rng.uniform(-0.05, 0.05)),
        brow=rng.uniform(-0.08, 0.1),
        blush=rng.uniform(0, 1),
    )
    hair.STYLES[character.style](canvas, character.hair)
    features.draw_body(canvas, character.skin, tuple(int(c) for c in rng.integers(40, 230, 3)))
    features.draw_head(canvas, character.skin, expression.blush)
    features.draw_eyes(canvas, character, expression)
    features.draw_nose(canvas, character.skin)
    features.draw_mouth(canvas, expression)
    features.draw_brows(canvas, character.hair, expression.brow)
    for name, color in character.accessories:
        if name in accessories.BEHIND_BANGS:
            accessories.BEHIND_BANGS[name](canvas, color)
    hair.draw_locks(canvas, character.hair)
    hair.draw_bangs(canvas, character.bangs, character.hair)
    for name, color in character.accessories:
        if name in accessories.IN_FRONT_OF_BANGS:
            accessories.IN_FRONT_OF_BANGS[name](canvas, color)
    return _light(image.resize((SIZE, SIZE), Image.Resampling.BOX), rng)


def _pose(rng: np.random.Generator) -> Pose:
    scale, angle, shear = rng.uniform(0.165, 0.285), rng.normal(0, 0.25), rng.normal(0, 0.1)
    turn = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    mirrored = -1.0 if rng.random() < 0.5 else 1.0
    linear = scale * turn @ np.asarray([[mirrored, shear], [0.0, 1.0]])
    centre = np.asarray([0.5, 0.5]) + rng.uniform(-0.15, 0.15, 2)
    return Pose(
        affine=np.column_stack([linear, centre]),
        yaw=rng.uniform(-1, 1),
        pitch=rng.uniform(-1, 1),
        line_width=rng.uniform(0.006, 0.013),
        jitter=rng.uniform(0.0, 0.035),
    )


def _background(rng: np.random.Generator, side: int) -> Image.Image:
    """Returns a (side, side) gradient between four random colours with a few random polygons."""
    corners = rng.integers(30, 256, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(corners).resize((side, side), Image.Resampling.BILINEAR)
    pose = Pose(np.asarray([[1.0, 0, 0], [0, 1.0, 0]]), 0, 0, 0.004, 0)
    canvas = Canvas(image, pose, rng)
    for _ in range(rng.integers(3, 11)):
        radius, (x, y) = rng.uniform(0.05, 0.3), rng.uniform(0, 1, 2)
        angles = np.linspace(0, 2 * np.pi, rng.integers(3, 9), endpoint=False)
        outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
        canvas.fill(outline, tuple(int(c) for c in rng.integers(30, 256, 3)), depth=0, line=0)
    return image


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns the image with tinted light from one side and sensor noise."""
    pixels = np.asarray(image, np.float32)
    gain = rng.uniform(0.5, 1.2) * rng.uniform(0.78, 1.15, 3)
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.45)
    y, x = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    slope = 1 + strength * (np.cos(direction) * x + np.sin(direction) * y)[..., None]
    noise = rng.normal(0, rng.uniform(0, 7), pixels.shape)
    return Image.fromarray(np.clip(pixels * gain * slope + noise, 0, 255).astype(np.uint8))
