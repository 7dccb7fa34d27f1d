"""Boxes drawn over pictures."""

import numpy as np
from PIL import Image, ImageColor

from animesion_jax.detection.drawing import BOX_COLOUR, MAX_SIDE, draw_boxes


def _coloured(image):
    """Returns where an image has the colour of boxes."""
    return (np.asarray(image) == ImageColor.getrgb(BOX_COLOUR)).all(-1)


def test_lines_are_inside_the_edges_of_the_box():
    picture = Image.new("RGB", (300, 200), "black")
    drawn = draw_boxes(picture, [(50, 60, 150, 180)])
    marked = _coloured(drawn)
    assert marked[60, 50:150].all() and marked[179, 50:150].all()
    assert marked[60:180, 50].all() and marked[60:180, 149].all()
    # Outside the box, there is the number only.
    marked[:60, 50:100] = False
    marked[60:180, 50:150] = False
    assert not marked.any() and not np.asarray(picture).any()
    assert not np.asarray(drawn)[80:160, 70:130].any()


def test_box_of_a_large_picture_is_where_it_was():
    drawn = draw_boxes(Image.new("RGB", (4 * MAX_SIDE, 2000), "black"), [(4000, 1000, 6000, 1800)])
    assert drawn.size == (MAX_SIDE, 500)
    rows, columns = np.nonzero(_coloured(drawn)[250:])
    assert (columns.min(), columns.max(), rows.min() + 250, rows.max() + 250) == (1000, 1499, 250, 449)


def test_boxes_at_the_edges_and_of_one_pixel_are_drawn():
    for box in [(0, 0, 40, 30), (0, 0, 1, 1), (39, 29, 40, 30), (10, 0, 11, 30)]:
        assert _coloured(draw_boxes(Image.new("RGB", (40, 30), "black"), [box])).any()
    assert draw_boxes(Image.new("RGB", (40, 30), "black"), []).getcolors() == [(1200, (0, 0, 0))]
