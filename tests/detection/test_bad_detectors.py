"""Files that are no detectors: one clear line about each."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from tests.detection.onnx_files import write_blob_detector, write_model


def _returning(path, output, shape=(1, 3, 64, 64), dtype=TensorProto.FLOAT, metadata=None, inputs=("images",)):
    """Writes a graph that returns a constant."""
    nodes = [helper.make_node("Identity", ["value"], ["output0"])]
    write_model(path, nodes, {"value": np.asarray(output, np.float32)}, shape, metadata or {}, dtype)
    model = onnx.load(path)
    for name in inputs[1:]:
        model.graph.input.append(helper.make_tensor_value_info(name, dtype, shape))
    onnx.save(model, path)


def _custom_operator(path):
    nodes = [helper.make_node("Theirs", ["images"], ["output0"], domain="some.vendor")]
    write_model(path, nodes, {}, [1, 3, 64, 64], {})
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("some.vendor", 1))
    onnx.save(model, path)


def _failing(path):
    """Fails when it runs: the reshape needs another number of values."""
    nodes = [helper.make_node("Reshape", ["images", "shape"], ["output0"])]
    write_model(path, nodes, {"shape": np.array([1, 5, 7])}, [1, 3, "height", "width"], {"imgsz": "[64, 64]"})


def _outside(path):
    """Has its constant in a file outside its folder."""
    secret = path.parent.parent / "secret.bin"
    secret.write_bytes(np.zeros(50, np.float32).tobytes())
    _returning(path, np.zeros((1, 5, 10)))
    model = onnx.load(path)
    (tensor,) = model.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "../secret.bin", "length": "200"}.items():
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    path.write_bytes(model.SerializeToString())


def _cut(path):
    write_blob_detector(path)
    path.write_bytes(path.read_bytes()[:-200])


BAD = {
    "classifier": (lambda path: _returning(path, np.zeros((1, 1000))), "its output is 1 x 1000; allowed: YOLO's"),
    "segmentation": (lambda path: _returning(path, np.zeros((1, 37, 10))), "its output is 1 x 37 x 10; allowed"),
    "other number of classes": (
        lambda path: _returning(path, np.zeros((1, 5, 10)), metadata={"names": "['a', 'b', 'c']"}),
        "its output is 1 x 5 x 10 for its 3 classes; allowed",
    ),
    "two inputs": (
        lambda path: _returning(path, np.zeros((1, 5, 10)), inputs=("images", "sizes")),
        "its input is images tensor(float) [1, 3, 64, 64]; sizes tensor(float) [1, 3, 64, 64]; allowed: one input",
    ),
    "bytes": (lambda path: _returning(path, np.zeros((1, 5, 10)), dtype=TensorProto.UINT8), "images tensor(uint8)"),
    "channels last": (lambda path: _returning(path, np.zeros((1, 5, 10)), (1, 64, 64, 3)), "[1, 64, 64, 3]; allowed"),
    "no size": (
        lambda path: write_blob_detector(path, dynamic=True, metadata={"names": "{0: 'head'}"}),
        "it does not say the size of its input; export it with a fixed size, or metadata imgsz",
    ),
    "three sizes": (
        lambda path: write_blob_detector(path, dynamic=True, metadata={"imgsz": "[64, 64, 3]"}),
        "the size of its input is [64, 64, 3]; allowed: height and width, 1 to 4096 pixels",
    ),
    "huge size": (lambda path: write_blob_detector(path, dynamic=True, metadata={"imgsz": "[99999, 64]"}), "99999"),
    "size in words": (
        lambda path: write_blob_detector(path, dynamic=True, metadata={"imgsz": "small"}),
        "its metadata imgsz is not a Python literal",
    ),
    "code as names": (
        lambda path: write_blob_detector(path, metadata={"names": "__import__('os').getcwd()"}),
        "its metadata names is not a Python literal",
    ),
    "numbers as names": (
        lambda path: write_blob_detector(path, metadata={"names": "{0: 7}"}),
        "its metadata names is [7]; allowed: a name for each class",
    ),
    "deep names": (lambda path: write_blob_detector(path, metadata={"names": "[" * 50_000}), "is not a Python literal"),
    "long names": (
        lambda path: write_blob_detector(path, metadata={"names": "'" + "a" * 200_000}),
        "200001 characters",
    ),
    "custom operator": (_custom_operator, "ONNX Runtime cannot read it"),
    "fails on a blank": (_failing, "ONNX Runtime cannot run it"),
    "external data outside": (_outside, "ONNX Runtime cannot read it"),
    "cut": (_cut, "ONNX Runtime cannot read it"),
    "text": (lambda path: path.write_text("hello"), "ONNX Runtime cannot read it"),
    "empty": (lambda path: path.write_bytes(b""), "ONNX Runtime cannot read it"),
}


@pytest.mark.parametrize("kind", BAD)
def test_file_that_is_no_detector_is_refused(tmp_path, kind):
    write, words = BAD[kind]
    path = tmp_path / "in" / "d.onnx"
    path.parent.mkdir()
    write(path)
    with pytest.raises(InputError) as refused:
        load_detector(str(path))
    message = str(refused.value)
    assert message.startswith(f"{path} is not a detector: ") and words in message and len(message) < 700


@pytest.mark.parametrize("file", ["threshold.json", "model_type.json"])
def test_damaged_file_beside_a_detector_is_named(tmp_path, file):
    write_blob_detector(tmp_path / "d.onnx")
    for content in ("", "[]", '{"x": 1}', '{"threshold": "high", "model_type": ["a"]}'):
        (tmp_path / file).write_text(content)
        if file == "model_type.json" and "model_type" in content:
            continue
        with pytest.raises(InputError, match=rf"{file} has no {file.removesuffix('.json')} .*; delete it, or download"):
            load_detector(str(tmp_path / "d.onnx"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.onnx", "no detector at {}; allowed: *.onnx or *.xml, a file or an address, such as hf://deepghs/"),
        ("absent.xml", "no detector at {}; allowed"),
        ("folder", "not a detector: {}; allowed: *.onnx or *.xml"),
        ("folder.onnx", "no detector at {}"),
        ("", "not a detector: "),
        ("best.pt", "export it to ONNX first: yolo export model=best.pt format=onnx"),
        ("s3://bucket/d.onnx", "s3://bucket/d.onnx cannot be read; allowed: a local path, hf://"),
    ],
)
def test_name_of_no_detector_is_refused(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "folder.onnx"):
        (tmp_path / folder).mkdir()
    with pytest.raises(InputError) as refused:
        load_detector(name)
    assert words.format(name) in str(refused.value)


@pytest.mark.parametrize("min_confidence", [-0.1, 1.1, float("nan")])
def test_confidence_beyond_0_to_1_is_refused(tmp_path, min_confidence):
    with pytest.raises(InputError, match=r"min_confidence is .*; allowed: 0 to 1"):
        load_detector(str(write_blob_detector(tmp_path / "d.onnx")), min_confidence)
