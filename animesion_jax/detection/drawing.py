"""Pictures with boxes drawn over them."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from animesion_jax.preprocessing import Box

BOX_COLOUR, NUMBER_COLOUR = "#4f46e5", "white"
# Longest side of a drawn picture in pixels.
MAX_SIDE = 2048
# Width of a box's line, and height of its number, in longest sides of the picture; at least these pixels.
LINE, MIN_LINE = 1 / 300, 3
TEXT, MIN_TEXT = 1 / 50, 12


def draw_boxes(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    """Returns a copy of an RGB image, its longest side at most `MAX_SIDE`, with boxes that are numbered from 1."""
    drawn = image.copy()
    drawn.thumbnail((MAX_SIDE, MAX_SIDE))
    scale = drawn.width / image.width, drawn.height / image.height
    line = max(MIN_LINE, round(LINE * max(drawn.size)))
    font = ImageFont.load_default(max(MIN_TEXT, TEXT * max(drawn.size)))
    pen = ImageDraw.Draw(drawn)
    for number, box in enumerate(boxes, start=1):
        left, top, right, bottom = (round(edge * scale[axis % 2]) for axis, edge in enumerate(box))
        # A white line beside the coloured one is seen on any ground.
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline="white", width=line + 1)
        pen.rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=BOX_COLOUR, width=line)
        text = f" {number} "
        _, _, width, height = pen.textbbox((0, 0), text, font=font)
        # Above the box, or inside it at the picture's upper edge.
        x, y = min(left, drawn.width - width), max(top - height - line, 0)
        pen.rectangle((x, y, x + width, y + height + line), fill=BOX_COLOUR)
        pen.text((x, y), text, fill=NUMBER_COLOUR, font=font)
    return drawn
