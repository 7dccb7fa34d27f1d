import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from animesion_jax.data.decode import decode_and_resize
from animesion_jax.preprocessing import resize
from tests.conftest import SHARED


def _jpegs():
    folder = SHARED / "realfaces" / "daf" / "data"
    files = sorted(folder.rglob("*.jpg"))[:60]
    return [file.read_bytes() for file in files]


@pytest.mark.shared
@pytest.mark.parametrize("size", [64, 160])
def test_decode_and_resize_agrees_with_pillow_and_predict(size):
    for jpeg in _jpegs():
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        ours = decode_and_resize(tf.constant(jpeg), size).numpy()
        theirs = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        # The resize of predict, which has no TensorFlow.
        np.testing.assert_array_equal(resize(image, size), ours)
