"""ONNX files in ONNX Runtime against our own predictions, for every family of models."""

import dataclasses
import json
import sys
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import onnx
import onnxruntime
import pytest

from animesion_jax.bundle import Bundle, Calibration, Enrolled, load_bundle
from animesion_jax.export import onnx as onnx_export
from animesion_jax.export import onnx_jaxpr, onnx_primitives
from animesion_jax.export.onnx import write_onnx
from animesion_jax.export.onnx_graph import Graph
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.main import main
from animesion_jax.models import abstract_variables, create_model
from tests.hostile_seeds import bundle_tree

TINY = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "mlp_dim": 48}
SHORT = {"stage_sizes": (1, 1, 1, 1)}
# Model, image size and options. ShallowNet at 35 px pools odd sides. The kernels of a ResNet's last stage are larger
# than its images at 32 px.
CASES = {
    "shallownet": ("shallownet", 35, {}),
    "basic": ("resnet18", 32, SHORT),
    "bottleneck": ("resnet50", 72, SHORT),
    "vit": ("vit_b16", 48, TINY),
    "vit with other options": ("vit_b16", 48, TINY | {"pool": "mean", "gelu": "erf", "pre_logits": True}),
    "vit with registers": ("vit_b16", 48, TINY | {"pool": "mean", "fc_norm": True, "registers": 4, "epsilon": 1e-5}),
    "hybrid": ("r50_vit_b16", 32, TINY | {"stem_sizes": (1, 1)}),
    "beit": ("beit_b16", 48, TINY),
    "eva02": ("eva02_b14", 42, TINY | {"rotary_grid": 32}),
}
CLASSES = ("yui", "あかり", "mio", "azusa", "ritsu")
# Values differ by channel, so that a wrong order of the channels is detected.
MEAN, STD = (0.6, 0.5, 0.3), (0.2, 0.3, 0.25)


def _random_bundle(name, size, options, dtype="float32"):
    """Returns a bundle of random weights that keep activations near 1."""
    model = create_model(name, num_classes=len(CLASSES), image_size=size, dtype=dtype, **options)
    draw = np.random.default_rng(3)

    def values(path, leaf):
        kind, array = path[-1].key, draw.standard_normal(leaf.shape, np.float32)
        if kind in ("scale", "var"):
            return (1 + 0.5 * np.tanh(array)).astype(np.float32)
        if kind == "kernel":  # outputs of variance 1; the inputs of attention's kernels come first
            return array / np.float32(np.sqrt(leaf.shape[0] if leaf.ndim != 4 else np.prod(leaf.shape[:3])))
        return array * np.float32(0.3)

    variables = jax.tree_util.tree_map_with_path(values, abstract_variables(model, size))
    return Bundle(model, variables, CLASSES, size, MEAN, STD, {"step": 7}, {"name": name, **options})


def _peaked_bundle(name, size, options):
    """Returns a bundle with peaked probabilities of several classes for `_images`."""
    bundle = _random_bundle(name, size, options)
    # Logits up to a constant of each image, scaled to mean 0 over the images and deviation 2.
    logits = np.log(Recognizer(bundle, batch_size=8).probabilities(_images(size)))
    logits -= logits.mean(1, keepdims=True)
    scale, head = 2 / (logits - logits.mean(0)).std(), bundle.variables["params"]["head"]
    head["bias"] = (scale * (head["bias"] - logits.mean(0))).astype(np.float32)
    head["kernel"] = (scale * head["kernel"]).astype(np.float32)
    return bundle


def _images(size):
    """Returns (8, S, S, 3) uint8 images: noise, and smooth ones with an edge as in drawings."""
    draw = np.random.default_rng(4)
    noise = draw.integers(0, 256, (4, size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size] / size
    waves = [np.stack([np.sin(6 * (i + 1) * x + c) * np.cos(5 * y * (c + 1)) for c in range(3)], -1) for i in range(4)]
    smooth = np.where((x > 0.4)[None, :, :, None], 127 * (1 + np.stack(waves)), 240)
    return np.concatenate([noise, smooth.astype(np.uint8)])


def _session(file):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def _normalised(images):
    return ((images / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)


def _check(session, inputs, expected):
    for batch in (1, 3, 8):
        probabilities, logits = session.run(["probabilities", "logits"], {"images": inputs[:batch]})
        assert probabilities.shape == logits.shape == (batch, len(CLASSES))
        assert np.abs(probabilities - expected[:batch]).max() < 1e-5
        exponentials = np.exp(logits.astype(np.float64))
        np.testing.assert_allclose(exponentials / exponentials.sum(1, keepdims=True), probabilities, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_onnx_probabilities_equal_ours_for_any_batch_size(case, tmp_path):
    bundle = _peaked_bundle(*CASES[case])
    images = _images(bundle.image_size)
    expected = Recognizer(bundle, batch_size=8).probabilities(images)
    # Probabilities that are flat, saturated or the same for every image would hide a difference.
    assert 0.4 < expected.max(1).mean() < 0.95 and len(set(expected.argmax(1))) > 2, expected
    # Normalisation does not depend on the model: two models are enough to test it outside the graph.
    ways = {True: images} | ({False: _normalised(images)} if case in ("shallownet", "vit") else {})
    for inside, inputs in ways.items():
        (file,) = write_onnx(bundle, str(tmp_path / "model.onnx"), inside)
        onnx.checker.check_model(onnx.load(file), full_check=True)
        session = _session(file)
        (given,) = session.get_inputs()
        size = bundle.image_size
        assert given.shape == ["batch", size, size, 3]
        assert given.type == f"tensor({'uint8' if inside else 'float'})"
        _check(session, inputs, expected)


def test_onnx_graph_has_the_calibration_and_the_enrolled_characters(tmp_path):
    bundle = _peaked_bundle(*CASES["shallownet"])
    images = _images(bundle.image_size)
    embeddings = Recognizer(bundle, batch_size=8).embeddings(images)
    bundle = dataclasses.replace(
        bundle,
        calibration=Calibration(1.7, 0.6, 0.1, 8.0, -3.0, {}),
        enrolled=Enrolled(("あ", "new"), embeddings[[0, 5]], (1, 1)),
    )
    expected = Recognizer(bundle, batch_size=8).probabilities(images)
    assert set(expected.argmax(1)) >= {5, 6}
    (file,) = write_onnx(bundle, str(tmp_path / "model.onnx"), normalize_inside=True)
    session = _session(file)
    (probabilities,) = session.run(["probabilities"], {"images": images[:3]})
    np.testing.assert_allclose(probabilities, expected[:3], atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == [*CLASSES, "あ", "new"]
    assert json.loads(metadata["calibration"]) == {"temperature": 1.7, "threshold": 0.6}


def test_every_primitive_is_used_by_a_tested_model(monkeypatch):
    used = set()

    class Recorded(dict):
        def __getitem__(self, name):
            used.add(name)
            return super().__getitem__(name)

    monkeypatch.setattr(onnx_jaxpr, "PRIMITIVES", Recorded(onnx_primitives.PRIMITIVES))
    for name, size, options in CASES.values():
        (batch,) = jax.export.symbolic_shape("batch")
        images = jax.ShapeDtypeStruct((batch, size, size, 3), np.uint8)
        onnx_export._add_model(Graph(batch, "images"), _random_bundle(name, size, options), images, True)
    assert used == set(onnx_primitives.PRIMITIVES)


def test_primitive_without_an_operator_is_named():
    (batch,) = jax.export.symbolic_shape("batch")
    traced = jax.make_jaxpr(jax.numpy.sinh)(jax.ShapeDtypeStruct((batch, 2), np.float32))
    with pytest.raises(NotImplementedError, match="sinh"):
        onnx_jaxpr.add_jaxpr(Graph(batch, "x"), traced.jaxpr, traced.consts, ["x"])


def test_onnx_metadata_has_classes_preprocessing_and_model(tmp_path):
    bundle = _random_bundle(*CASES["vit"])
    for inside in (True, False):
        (file,) = write_onnx(bundle, str(tmp_path / "model.onnx"), inside)
        model = onnx.load(file)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)] and model.ir_version == 8
        said = _session(file).get_modelmeta().custom_metadata_map
        assert tuple(json.loads(said["classes"])) == CLASSES
        preprocessing = json.loads(said["preprocessing"])
        assert (preprocessing["size"], preprocessing["mean"], preprocessing["std"]) == (48, list(MEAN), list(STD))
        assert json.loads(said["model"])["name"] == "vit_b16" and json.loads(said["training"]) == {"step": 7}
        assert said["normalization"] == ("inside" if inside else "outside")


def test_onnx_of_a_bfloat16_model_computes_in_float32(tmp_path):
    half, images = _random_bundle(*CASES["vit"], dtype="bfloat16"), _images(48)
    (file,) = write_onnx(half, str(tmp_path / "model.onnx"), True)
    whole = dataclasses.replace(half, model=half.model.clone(dtype=np.float32))
    _check(_session(file), images, Recognizer(whole, batch_size=8).probabilities(images))


def test_onnx_weights_beyond_protobufs_limit_are_in_a_second_file(tmp_path, monkeypatch):
    bundle = _random_bundle(*CASES["vit"])
    (alone,) = write_onnx(bundle, str(tmp_path / "alone.onnx"), True)
    monkeypatch.setattr(onnx_export, "MAX_BYTES", 10_000)
    files = write_onnx(bundle, str(tmp_path / "large.onnx"), True)
    assert [file.name for file in files] == ["large.onnx", "large.onnx.data"] and files[0].stat().length < 60_000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["alone.onnx", "large.onnx", "large.onnx.data"]
    onnx.checker.check_model(str(files[0]), full_check=True)
    one, other = (_session(file).run(None, {"images": _images(48)}) for file in (alone, files[0]))
    np.testing.assert_array_equal(one, other)


def test_missing_onnx_package_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "b.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "animesion_jax.export.onnx")
    arguments = [f"--bundle={tmp_path / 'b.msgpack'}", f"--output={tmp_path / 'model.onnx'}", "--format=onnx"]
    assert main(["animesion", "export", *arguments]) == 2
    assert capsys.readouterr().err.endswith("package onnx; install it: pip install 'animesion-jax[onnx]'\n")
    assert [file.name for file in tmp_path.iterdir()] == ["b.msgpack"]


def test_export_to_a_folder_is_refused(tmp_path, capsys):
    (tmp_path / "b.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    arguments = [f"--bundle={tmp_path / 'b.msgpack'}", f"--output={tmp_path}", "--format=onnx"]
    assert main(["animesion", "export", *arguments]) == 2
    assert "folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "words"),
    [("b.msgpack", "allowed: b.onnx"), ("plain", "the bundle itself"), ("b.safetensors", "allowed: b.onnx")],
)
def test_export_refuses_the_bundle_itself_and_another_formats_ending(tmp_path, monkeypatch, output, words, capsys):
    monkeypatch.chdir(tmp_path)
    written = flax.serialization.msgpack_serialize(bundle_tree())
    for name in ("b.msgpack", "plain"):
        Path(name).write_bytes(written)
    bundle = "plain" if output == "plain" else "b.msgpack"
    assert main(["animesion", "export", f"--bundle={bundle}", f"--output=./{output}", "--format=onnx"]) == 2
    assert words in capsys.readouterr().err.replace("./", "")
    assert Path("b.msgpack").read_bytes() == Path("plain").read_bytes() == written


def test_export_writes_the_same_onnx_from_a_run_and_from_its_bundle(trained, bundle_path, tmp_path, capsys):
    for source, name in ((f"--workdir={trained[0]}", "run"), (f"--bundle={bundle_path}", "bundle")):
        arguments = ["export", source, "--format=onnx", "--preprocessing=inside", f"--output={tmp_path / name}"]
        assert main(["animesion", *arguments]) == 0
        assert capsys.readouterr().out.startswith(f"wrote {tmp_path / name} (")
    assert (tmp_path / "run").read_bytes() == (tmp_path / "bundle").read_bytes()
    expected = Recognizer(load_bundle(str(bundle_path))).probabilities(_images(32))
    probabilities, _ = _session(tmp_path / "run").run(None, {"images": _images(32)})
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
