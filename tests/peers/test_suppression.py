"""Non-maximum suppression against torchvision's."""

import numpy as np
import pytest

from animesion_jax.detection.suppression import suppress
from tests.detection.test_suppression import random_boxes

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("number", [0, 1, 2, 30, 3000])
@pytest.mark.parametrize("max_iou", [0.0, 0.4375, 0.6875, 1.0])
@pytest.mark.parametrize("levels", [None, 10], ids=["distinct scores", "equal scores"])
def test_suppression_keeps_the_boxes_that_torchvision_keeps(peers, number, max_iou, levels):
    import torch
    import torchvision

    if not torchvision.extension._has_ops():
        pytest.skip("this torchvision was built for another build of PyTorch and has no nms")
    boxes, scores = random_boxes(number, 3, levels)
    # torchvision's sort is not stable: give equal scores distinct ones in the order of the boxes.
    ordered = np.argsort(-scores, kind="stable")
    falling = -torch.arange(number, dtype=torch.float64)
    expected = torchvision.ops.nms(torch.from_numpy(boxes[ordered]).double(), falling, max_iou)
    np.testing.assert_array_equal(suppress(boxes, scores, max_iou), ordered[expected.numpy()])
