"""The crop around a detector's box, compared with a rule for each pixel."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from animesion_jax.preprocessing import Margin, crop, crop_box

each_time_the_same = settings(max_examples=300, derandomize=True, database=None, deadline=None)


def _coordinates(width, height):
    """Returns an image whose red and green are the column and the row."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, 0 * rows], -1).astype(np.uint8))


@pytest.mark.parametrize(
    ("box", "scale", "shift", "expected"),
    [
        ((20, 30, 40, 70), 1, 0, (20, 30, 40, 70)),
        ((20, 30, 40, 70), 1.5, 0, (15, 20, 45, 80)),
        ((20, 30, 40, 70), 0.5, 0, (25, 40, 35, 60)),
        ((20, 30, 40, 70), 1, 0.25, (20, 20, 40, 60)),  # up by a quarter of 40
        ((20, 30, 40, 70), 1, -0.25, (20, 40, 40, 80)),
        ((20, 30, 40, 70), 2, 0.5, (10, 0, 50, 70)),  # -10 to 70: what is above the picture is left out
        ((0, 0, 10, 10), 2, 0, (0, 0, 15, 15)),
        ((90, 90, 100, 100), 2, 0, (85, 85, 100, 100)),
        ((20, 30, 40, 70), 100, 0, (0, 0, 100, 100)),
        ((20, 30, 40, 70), 0.001, 0, (30, 50, 31, 51)),  # at least a pixel
        ((0, 0, 10, 10), 1, 9, (0, 0, 10, 1)),  # all of it is above the picture
        ((90, 90, 100, 100), 1, -9, (90, 99, 100, 100)),
    ],
)
def test_crops_by_hand(box, scale, shift, expected):
    for fit in ("squash", "pad"):
        assert crop_box((100, 100), box, Margin(scale, shift, fit)) == expected
    pixels = np.asarray(crop(_coordinates(100, 100), box, Margin(scale, shift, "squash")))
    assert (*pixels[0, 0, :2], *(pixels[-1, -1, :2] + 1)) == expected


@each_time_the_same
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corners=st.lists(st.integers(0, 60), min_size=4, max_size=4),
    scale=st.floats(0.05, 20),
    shift=st.floats(-2, 2),
)
def test_a_pixel_is_in_the_crop_if_its_middle_is(size, corners, scale, shift):
    width, height = size
    left, right = sorted((corners[0] % width, corners[1] % width))
    top, bottom = sorted((corners[2] % height, corners[3] % height))
    box = left, top, right + 1, bottom + 1
    centre = (left + right + 1) / 2, (top + bottom + 1) / 2 - shift * (bottom + 1 - top)
    half = scale * (right + 1 - left) / 2, scale * (bottom + 1 - top) / 2
    columns, rows = (
        np.abs(np.arange(length) + 0.5 - middle) - reach
        for length, middle, reach in zip(size, centre, half, strict=True)
    )
    assume(min(np.abs(columns).min(), np.abs(rows).min()) > 1e-6)  # no ties
    expected = [np.flatnonzero(each < 0) for each in (columns, rows)]
    pixels = np.asarray(crop(_coordinates(width, height), box, Margin(scale, shift, "squash")))
    for axis, (places, distances) in enumerate(zip(expected, (columns, rows), strict=True)):
        seen = np.unique(pixels[..., axis]).tolist()
        if len(places):
            assert seen == places.tolist()
        else:  # between two middles or outside the picture: one of the nearest pixels
            assert len(seen) == 1 and distances[seen[0]] <= distances.min() + 1


@each_time_the_same
@given(
    size=st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    box=st.tuples(*[st.integers(-(10**6), 10**6)] * 4),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e6, 1e6),
)
def test_every_crop_is_inside_the_picture_and_has_a_pixel(size, box, scale, shift):
    """Whatever the box: also those outside the picture, and those whose edges are exchanged."""
    left, top, right, bottom = crop_box(size, box, Margin(scale, shift, "pad"))
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    assert all(isinstance(edge, int) for edge in (left, top, right, bottom))
