"""Detectors as ONNX files: every layout, the input that the network gets, and what never comes out."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from animesion_jax.detection import load_detector
from tests.detection.onnx_files import BLOB, GROUND, LAYOUTS, draw_blobs, write_blob_detector, write_model

# On the grid of an input of 96 x 64 pixels (width x height).
BLOBS = [(0, 0, 16, 16), (40, 24, 56, 40), (80, 48, 96, 64)]


def _scaled(boxes, x, y):
    return [(left * x, top * y, right * x, bottom * y) for left, top, right, bottom in boxes]


def _boxes(found):
    return sorted(each.box for each in found)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("x", "y"), [(1, 1), (2, 3), (10, 10)])
def test_boxes_are_in_pixels_of_the_picture(tmp_path, layout, dynamic, x, y):
    detect = load_detector(str(write_blob_detector(tmp_path / "d.onnx", layout=layout, size=(64, 96), dynamic=dynamic)))
    found = detect(draw_blobs((96 * x, 64 * y), _scaled(BLOBS, x, y)))
    assert _boxes(found) == _scaled(BLOBS, x, y)
    confidences = [each.confidence for each in found]
    assert confidences == sorted(confidences, reverse=True) and 0.75 < confidences[-1] <= confidences[0] <= 1
    assert all(type(edge) is int for each in found for edge in each.box)
    assert detect(draw_blobs((96, 64), [])) == []


def _returning_its_input(path, size):
    """Writes a detector of one place; its box is the input's pixel at row 1 and column 2, and its score is 1."""
    nodes = [
        helper.make_node("Slice", ["images", "start", "stop", "axes"], ["pixel"]),
        helper.make_node("Reshape", ["pixel", "column"], ["colours"]),
        helper.make_node("Concat", ["colours", "ones"], ["output0"], axis=1),
    ]
    constants = {
        "start": np.array([1, 2]), "stop": np.array([2, 3]), "axes": np.array([2, 3]),
        "column": np.array([1, 3, 1]), "ones": np.ones((1, 2, 1), np.float32),
    }  # fmt: skip
    return write_model(path, nodes, constants, [1, 3, *size], {"names": "{0: 'head'}"})


def test_network_gets_the_picture_stretched_by_pillow_s_bicubic_filter_in_rgb_from_0_to_1(tmp_path):
    """Centre x, centre y and width of the only box are red, green and blue of a pixel."""
    detect = load_detector(str(_returning_its_input(tmp_path / "d.onnx", (8, 16))))
    outputs = []
    run = detect._run
    detect._run = lambda images: outputs.append(run(images)) or outputs[-1]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8))
    detect(picture)
    expected = picture.resize((16, 8), Image.Resampling.BICUBIC).getpixel((2, 1))
    np.testing.assert_allclose(outputs[0][0, :3, 0] * 255, expected, rtol=1e-6)


def test_boxes_of_other_classes_than_head_or_face_do_not_count_if_the_file_has_one_of_these(tmp_path):
    picture = draw_blobs((96, 64), BLOBS)
    for layout in LAYOUTS:
        for names, count in [
            ({0: "Face"}, 3), ({0: "miku"}, 3), ({0: "person", 1: "cat"}, 3), ({0: "head", 1: "body", 2: "x"}, 3),
            ({0: "body", 1: "Head", 2: "x"}, 0),
        ]:  # fmt: skip
            if layout != "end_to_end" and len(names) == 2:
                continue  # 1 x N x 6 is the layout with suppression
            path = write_blob_detector(tmp_path / "d.onnx", layout=layout, size=(64, 96), names=names)
            assert len(load_detector(str(path))(picture)) == count, (layout, names)


def test_rtdetr_of_two_classes_is_told_from_the_layout_with_suppression_by_model_type(tmp_path):
    path = write_blob_detector(tmp_path / "d.onnx", layout="rtdetr", size=(64, 96), names={0: "head", 1: "x"})
    picture = draw_blobs((96, 64), BLOBS)
    assert load_detector(str(path))(picture) == []
    (tmp_path / "model_type.json").write_text('{"model_type": "rtdetr", "problem_type": "detection"}')
    assert _boxes(load_detector(str(path))(picture)) == BLOBS


def test_file_without_metadata_has_one_class_and_the_size_of_its_input(tmp_path):
    path = write_blob_detector(tmp_path / "d.onnx", size=(64, 96), metadata={})
    assert _boxes(load_detector(str(path))(draw_blobs((96, 64), BLOBS))) == BLOBS


def test_threshold_is_the_caller_s_or_that_of_threshold_json_or_a_quarter(tmp_path):
    def count(score, min_confidence=None):
        path = write_blob_detector(tmp_path / "d.onnx", size=(64, 96), score=score)
        return len(load_detector(str(path), min_confidence)(draw_blobs((960, 640), _scaled(BLOBS, 10, 10))))

    # The scores of these blobs are between 0.8 and 1 times the factor.
    assert (count(0.24), count(0.33)) == (0, 3)
    assert (count(0.33, 0.34), count(0.24, 0.1), count(0.24, 0.0)) == (0, 3, 3)
    (tmp_path / "threshold.json").write_text(json.dumps({"threshold": 0.6, "f1_score": 0.9}))
    assert (count(0.59), count(0.8), count(0.24, 0.1)) == (0, 3, 3)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_no_heads(tmp_path, score):
    path = write_blob_detector(tmp_path / "d.onnx", size=(64, 96), score=score)
    assert load_detector(str(path), 0.0)(draw_blobs((96, 64), BLOBS)) == []


def _constant(path, output, size=(64, 64), dtype=onnx.TensorProto.FLOAT):
    """Writes a detector that always gives this output, in float32 or in `dtype`."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "value"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["output0"], to=dtype),
    ]
    constants = {"zero": np.float32([0]).reshape(()), "value": np.asarray(output, np.float32)}
    return write_model(path, nodes, constants, [1, 3, *size], {"names": "['head']"})


def test_boxes_are_clipped_rounded_and_suppressed(tmp_path):
    """Corners in an input of 64 x 64 pixels; the picture has 640 x 320."""
    rows = [
        (-9, 8, 32.04, 70, 0.9, 0),  # over three edges
        (-9, 8, 31.0, 70, 0.8, 0),  # nearly the same
        (40, 10, 50, 20, 0.5, 0),
        (40, 10, 50, 20, 0.7, 0),  # the same
        (70, 70, 90, 90, 0.6, 0),  # outside
        (30, 30, 30.01, 40, 0.6, 0),  # less than a pixel wide
        (30, 40, 20, 30, 0.6, 0),  # right and left exchanged
        (10, 10, np.nan, 20, 0.6, 0),
        (10, 10, 20, np.inf, 0.6, 0),
        (1, 1, 9, 9, 1.5, 0),  # a logit
    ]
    detect = load_detector(str(_constant(tmp_path / "d.onnx", [rows])))
    found = detect(Image.new("RGB", (640, 320), GROUND))
    assert [each.box for each in found] == [(10, 5, 90, 45), (0, 40, 320, 320), (400, 50, 500, 100)]
    assert [each.confidence for each in found] == pytest.approx([1, 0.9, 0.7])
    # A box at the threshold is a head.
    assert load_detector(str(tmp_path / "d.onnx"), 0.7)(Image.new("RGB", (640, 320), GROUND)) == found


@pytest.mark.parametrize("shape", [(1, 0, 6), (1, 5, 0)])
def test_output_without_places_has_no_heads(tmp_path, shape):
    assert load_detector(str(_constant(tmp_path / "d.onnx", np.zeros(shape))))(Image.new("RGB", (9, 9))) == []


def test_many_threads_find_what_one_finds(tmp_path):
    detect = load_detector(str(write_blob_detector(tmp_path / "d.onnx", size=(64, 96))))
    pictures = [draw_blobs((96, 64), [(4 * place, 16, 4 * place + BLOB, 16 + BLOB)]) for place in range(20)] * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detect, pictures)) == [detect(picture) for picture in pictures]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(333, 517), (1000, 80), (70, 900)])
def test_boxes_of_pictures_of_any_shape_are_right_to_a_pixel_or_two(tmp_path, layout, size):
    """The blobs' edges lie between pixels of the network's input."""
    detect = load_detector(str(write_blob_detector(tmp_path / "d.onnx", layout=layout, size=(64, 96))))
    scale = size[0] / 96, size[1] / 64
    boxes = [tuple(round(edge) for edge in box) for box in _scaled(BLOBS, *scale)]
    found = _boxes(detect(draw_blobs(size, boxes)))
    assert len(found) == len(boxes)
    np.testing.assert_allclose(found, boxes, atol=1)


def test_many_heads_are_all_found(tmp_path):
    places = [(20 * column, 20 * row, 20 * column + 16, 20 * row + 16) for row in range(25) for column in range(20)]
    detect = load_detector(str(write_blob_detector(tmp_path / "d.onnx", size=(500, 400))))
    assert _boxes(detect(draw_blobs((400, 500), places))) == sorted(places)


def test_half_floats_other_outputs_and_batches_of_any_size(tmp_path):
    model = onnx.load(write_blob_detector(tmp_path / "d.onnx", size=(64, 96)))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.node[-1].output[0] = "floats"
    model.graph.node.append(helper.make_node("Cast", ["floats"], ["output0"], to=onnx.TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model.graph.output.append(helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "d.onnx")
    # Shares of a large picture need more digits than half floats have.
    boxes = _scaled(BLOBS, 40, 40)
    assert _boxes(load_detector(str(tmp_path / "d.onnx"))(draw_blobs((96 * 40, 64 * 40), boxes))) == boxes


def test_half_floats_are_decoded_in_whole_ones(tmp_path):
    """The left edge, 600 - 16.75, has no half float."""
    rows = [[600], [320], [33.5], [64], [0.5]]
    model = onnx.load(_constant(tmp_path / "d.onnx", [rows], (640, 640), onnx.TensorProto.FLOAT16))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "d.onnx")
    (found,) = load_detector(str(tmp_path / "d.onnx"))(Image.new("RGB", (2560, 640), GROUND))
    assert found.box == (2333, 288, 2467, 352)
