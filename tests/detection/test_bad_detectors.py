"""Files that are no detectors: one line each, which says what was found and what is allowed."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from PIL import Image

from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from tests.detection.onnx_files import write_blob_detector, write_model

ONE_CLASS = {"names": "{0: 'head'}"}


def _fail(path, *words, min_confidence=None):
    with pytest.raises(InputError) as caught:
        load_detector(str(path), min_confidence)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message


def _mean(path, shape=(1, 3, 64, 64), dtype=TensorProto.FLOAT, metadata=ONE_CLASS):
    """Writes a graph whose output is a number per channel, as of a classifier of images."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output0"]),
    ]
    return write_model(path, nodes, {}, list(shape), metadata, dtype)


def test_classifier_of_images_is_no_detector(tmp_path):
    _fail(_mean(tmp_path / "d.onnx"), "d.onnx", "its output is 1 x 3 ", "allowed: YOLO's 1 x (4 + classes) x N")
    _fail(_mean(tmp_path / "d.onnx", metadata={}), "its output is 1 x 3, and its metadata has no names")


def test_several_classes_need_names(tmp_path):
    """Otherwise every object would be a head, and a classifier's 1 x tokens x features a detector."""
    path = write_blob_detector(tmp_path / "d.onnx", names={0: "person", 1: "cat", 2: "dog"}, metadata={})
    _fail(path, "its output is 1 x 7 x 169, and its metadata has no names of classes; allowed")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 64, 64, 3), TensorProto.FLOAT),
        ((1, 1, 64, 64), TensorProto.FLOAT),
        ((1, 3, 64), TensorProto.FLOAT),
        ((1, 3, 64, 64), TensorProto.UINT8),
        ((1, 3, 64, 64), TensorProto.FLOAT16),
        ((1, 3, 64, 64), TensorProto.DOUBLE),
    ],
)
def test_input_is_float32_with_the_channels_first(tmp_path, shape, dtype):
    path = _mean(tmp_path / "d.onnx", shape, dtype)
    name = {TensorProto.FLOAT: "float", TensorProto.UINT8: "uint8"}.get(dtype, "")
    _fail(path, f"its input is images tensor({name}", str(list(shape)), "allowed: one input, float32, batch x 3 x")


def test_detector_has_one_input(tmp_path):
    model = onnx.load(write_blob_detector(tmp_path / "d.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, [1, 2]))
    onnx.save(model, tmp_path / "d.onnx")
    _fail(tmp_path / "d.onnx", "images tensor(float) [1, 3, 64, 64]; sizes tensor(int64) [1, 2]", "allowed: one input")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "does not say the size of its input; export it with a fixed size, or metadata imgsz"),
        ({"imgsz": "[64, 64, 3]"}, "the size of its input is [64, 64, 3]; allowed: height and width, 1 to 4096"),
        ({"imgsz": "[64, 0]"}, "[64, 0]; allowed"),
        ({"imgsz": "[64, 100000]"}, "[64, 100000]; allowed"),
        ({"imgsz": "[64, True]"}, "[64, True]; allowed"),
        ({"imgsz": "'64'"}, "'64'; allowed"),
        ({"imgsz": "sixty"}, "its metadata imgsz is not a Python literal"),
        ({"imgsz": "[64, 64]", "names": "{0: 'head'"}, "its metadata names is not a Python literal"),
        ({"imgsz": "[64, 64]", "names": "open('/etc/passwd')"}, "its metadata names is not a Python literal"),
        ({"imgsz": "[64, 64]", "names": "9" * 200_000}, "is not a Python literal (200000 characters)"),
        ({"imgsz": "[64, 64]", "names": "[" * 20_000}, "its metadata names is not a Python literal"),
        ({"imgsz": "[64, 64]", "names": "9" * 50_000}, "its metadata names"),
        ({"imgsz": "[64, 64]", "names": "{1: 'head'}"}, "its metadata names is {1: 'head'}; allowed: a name for each"),
        ({"imgsz": "[64, 64]", "names": "{[]: 1}"}, "its metadata names is not a Python literal"),
        ({"imgsz": "[64, 64]", "names": "[1]"}, "its metadata names is [1]; allowed"),
        ({"imgsz": "[64, 64]", "names": "[]"}, "its metadata names is []; allowed"),
        ({"imgsz": "[64, 64]", "names": "['head', 'body']"}, "its output is 1 x 5 x 169 for its 2 classes; allowed"),
    ],
)
def test_metadata_is_checked(tmp_path, metadata, words):
    _fail(write_blob_detector(tmp_path / "d.onnx", metadata=metadata, dynamic=True), "d.onnx", words)


def test_operators_of_other_domains_are_refused(tmp_path):
    path = write_blob_detector(tmp_path / "d.onnx")
    model = onnx.load(path)
    model.graph.node[0].domain = "com.evil"
    model.opset_import.append(helper.make_opsetid("com.evil", 1))
    path.write_bytes(model.SerializeToString())
    _fail(path, "ONNX Runtime cannot read it", "com.evil", "allowed: a whole ONNX file of standard operators")


@pytest.mark.parametrize("content", [b"", b"a text\n", b"\0" * 99, None], ids=["empty", "text", "zeros", "truncated"])
def test_file_that_is_not_onnx(tmp_path, content):
    path = write_blob_detector(tmp_path / "d.onnx")
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    _fail(path, "d.onnx is not a detector", "allowed: a whole ONNX file")


def test_data_outside_the_folder_is_not_read(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    path = write_blob_detector(folder / "d.onnx")
    model = onnx.load(path)
    tensor = next(each for each in model.graph.initializer if each.name == "boxes")
    content = numpy_helper.to_array(tensor).tobytes()
    (tmp_path / "secret").write_bytes(content)
    for location in ("../secret", str(tmp_path / "secret")):
        tensor.raw_data = content
        external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
        path.write_bytes(model.SerializeToString())
        _fail(path, "ONNX Runtime cannot read it")


def test_graph_that_fails_on_a_blank_picture(tmp_path):
    nodes = [helper.make_node("Reshape", ["images", "shape"], ["output0"])]
    path = write_model(tmp_path / "d.onnx", nodes, {"shape": np.array([1, 5, 7])}, [1, 3, "h", "w"], {"imgsz": "64"})
    _fail(path, "ONNX Runtime cannot run it", "export it again")


@pytest.mark.parametrize("name", ["absent.onnx", "absent.xml", "folder.onnx", "d.pt", "d.txt", "d"])
def test_missing_files_and_other_kinds(tmp_path, name):
    (tmp_path / "folder.onnx").mkdir()
    for file in ("d.pt", "d.txt", "d"):
        (tmp_path / file).write_bytes(b"1")
    hint = "yolo export model=d.pt format=onnx" if name == "d.pt" else "allowed: *.onnx or *.xml"
    _fail(tmp_path / name, name, hint)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, math.nan, math.inf])
def test_min_confidence_is_from_0_to_1(tmp_path, confidence):
    path = write_blob_detector(tmp_path / "d.onnx")
    _fail(path, f"min_confidence is {confidence:g}; allowed: 0 to 1", min_confidence=confidence)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"threshold": "high"}', '{"threshold": NaN}', '{"threshold": 4}'])
def test_threshold_json_is_checked(tmp_path, text):
    path = write_blob_detector(tmp_path / "d.onnx")
    (tmp_path / "threshold.json").write_text(text)
    _fail(path, "threshold.json", "delete it, or download it again")
    assert load_detector(str(path), 0.5)(Image.new("RGB", (9, 9))) == []
