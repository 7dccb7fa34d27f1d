"""Any output of a network gives boxes inside the picture, or none."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from animesion_jax.detection.onnx_yolo import OnnxYolo
from animesion_jax.detection.outputs import decode_end_to_end, decode_rtdetr, decode_yolo
from tests.fuzz import fuzz

NUMBERS = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, 0.5, 64.0, -1.0]), st.floats(-100, 200, width=32))
# Number of values per place, whether the places are columns, and the decoder.
LAYOUTS = [(5, True, decode_yolo), (8, True, decode_yolo), (6, False, decode_end_to_end), (7, False, decode_rtdetr)]


def _detector(output, decode, classes, min_confidence):
    """Returns a detector whose network gives `output`."""
    detect = OnnxYolo.__new__(OnnxYolo)
    detect._input, detect._size, detect._min_confidence = "images", (64, 32), min_confidence
    detect._decode, detect._classes = decode, classes
    detect._session = SimpleNamespace(run=lambda names, feeds: [output])
    return detect


@fuzz
@given(data=st.data())
def test_boxes_are_inside_the_picture(data):
    values, in_columns, decode = data.draw(st.sampled_from(LAYOUTS))
    places = data.draw(st.integers(0, 30))
    output = data.draw(arrays(np.float32, (1, values, places) if in_columns else (1, places, values), elements=NUMBERS))
    classes = data.draw(st.sampled_from([None, [0]]))
    size = data.draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))
    found = _detector(output, decode, classes, data.draw(st.floats(0, 1)))(Image.new("RGB", size))
    confidences = [each.confidence for each in found]
    assert len(found) <= places and confidences == sorted(confidences, reverse=True)
    for (left, top, right, bottom), confidence in found:
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1] and 0 <= confidence <= 1
