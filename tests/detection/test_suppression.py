"""Non-maximum suppression against ONNX Runtime's operator and OpenCV's function."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from animesion_jax.detection.suppression import suppress


def random_boxes(number: int, seed: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, 4) boxes of whole pixels, which have exact areas, and (n,) scores; `levels` of them are distinct."""
    rng = np.random.default_rng([number, seed])
    corners = rng.integers(0, 300, (number, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 100, (number, 2))], 1).astype(np.float32)
    scores = (rng.permutation(number).astype(np.float32) + 1) / (number + 1)
    return boxes, np.ceil(scores * levels) / np.float32(levels) if levels else scores


def onnx_operator() -> onnxruntime.InferenceSession:
    """Returns ONNX's operator NonMaxSuppression: (1, n, 4) boxes, (1, 1, n) scores, most boxes, largest IoU."""
    helper, kinds = onnx.helper, onnx.TensorProto
    inputs = [
        helper.make_tensor_value_info("boxes", kinds.FLOAT, [1, None, 4]),
        helper.make_tensor_value_info("scores", kinds.FLOAT, [1, 1, None]),
        helper.make_tensor_value_info("most", kinds.INT64, [1]),
        helper.make_tensor_value_info("iou", kinds.FLOAT, [1]),
    ]
    output = helper.make_tensor_value_info("kept", kinds.INT64, [None, 3])
    node = helper.make_node("NonMaxSuppression", [each.name for each in inputs], ["kept"])
    model = helper.make_model(
        helper.make_graph([node], "nms", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("number", [1, 2, 30, 3000])
@pytest.mark.parametrize("max_iou", [0.0, 0.4375, 0.6875, 1.0])
@pytest.mark.parametrize("levels", [None, 10], ids=["distinct scores", "equal scores"])
def test_suppression_keeps_the_boxes_that_onnx_runtime_keeps(number, max_iou, levels):
    boxes, scores = random_boxes(number, 1, levels)
    feeds = {
        "boxes": boxes[None],
        "scores": scores[None, None],
        "most": np.array([number]),
        "iou": np.array([max_iou], np.float32),
    }
    kept = onnx_operator().run(None, feeds)[0][:, 2]
    np.testing.assert_array_equal(suppress(boxes, scores, max_iou), kept)


@pytest.mark.parametrize("max_iou", [0.3, 0.7])
def test_suppression_keeps_the_boxes_that_opencv_keeps(max_iou):
    boxes, scores = random_boxes(500, 2)
    with_sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = cv2.dnn.NMSBoxes(with_sides.tolist(), scores.tolist(), 0.0, max_iou)
    np.testing.assert_array_equal(suppress(boxes, scores, max_iou), kept)


def test_a_box_is_kept_up_to_the_largest_iou_and_left_out_above_it():
    """The boxes share 60 of 100 + 80 - 60 pixels: an intersection over union of one half."""
    boxes, scores = np.array([[0, 0, 10, 10], [4, 0, 12, 10]]), np.array([0.5, 0.9])
    assert suppress(boxes, scores, 0.5).tolist() == [1, 0]
    assert suppress(boxes, scores, 0.49).tolist() == [1]
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.parametrize("box", [(300, 0, 100, 100), (0, 300, 100, 100), (300, 300, 100, 100), (50, 50, 50, 90)])
def test_a_box_without_area_suppresses_nothing(box):
    """As in torchvision; its left and right, or top and bottom, are exchanged or the same."""
    boxes, scores = np.array([box, (0, 200, 30, 230)]), np.array([0.9, 0.8])
    assert suppress(boxes, scores, 0.7).tolist() == [0, 1]
