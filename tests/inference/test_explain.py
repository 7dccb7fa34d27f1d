"""The maps of `explain` against the published formulas, and against predictions of partly covered images."""

import io
import json
import sys
from functools import partial

import jax
import matplotlib
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from animesion_jax.bundle import Bundle, load_bundle
from animesion_jax.errors import InputError
from animesion_jax.images import find_images
from animesion_jax.inference import heads
from animesion_jax.inference.explain import Explainer, colour, grad_cam, overlay, rollout
from animesion_jax.inference.overlays import explain_files
from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from animesion_jax.models import FAMILIES, abstract_variables, create_model, family_of, init_variables
from animesion_jax.models.kernels import attention
from animesion_jax.preprocessing import resize
from animesion_jax.pretrained import load_pretrained
from tests import float64_beit, float64_eva02, float64_vit
from tests.known_boxes import KnownBoxes
from tests.models.test_beit import TINY_BEIT
from tests.models.test_eva02 import TINY_EVA02
from tests.published import google_arrays, random_images, relative_difference, save_google
from tfds_builders.toyfaces.draw import write_new_faces

TINY_VIT = {"num_layers": 3, "hidden_size": 24, "mlp_dim": 32}


@pytest.mark.parametrize(
    ("pool", "registers", "prefix"), [("token", 0, 1), ("mean", 0, 0), ("token", 4, 5), ("mean", 4, 4)]
)
def test_rollout_equals_the_papers_product_in_float64(pool, registers, prefix, tmp_path):
    arrays = google_arrays("vit_ti16", 5, 48, token=pool == "token", **TINY_VIT)
    model = create_model("vit_ti16", num_classes=5, image_size=48, pool=pool, registers=registers, **TINY_VIT)
    if registers:
        arrays["Transformer/registers"] = np.random.default_rng(0).standard_normal((1, 4, 24), np.float32)
    file = save_google(tmp_path / "tiny.npz", arrays)
    variables = load_pretrained(file, model, abstract_variables(model, 48), keep_head=True)
    images = random_images(2, 48)
    flow = np.eye(prefix + 9)
    for weights in float64_vit.attention_weights(arrays, images):
        flow = (weights.mean(1) + np.eye(weights.shape[-1])) / 2 @ flow
    expected = flow[:, 0, prefix:] if pool == "token" else flow[:, prefix:, prefix:].mean(1)
    method = FAMILIES["vit"].explain
    assert len(method.layers(model)) == 3
    logits, maps = jax.jit(lambda variables: rollout(method, model, lambda: model.apply(variables, images)))(variables)
    assert relative_difference(logits, float64_vit.forward(arrays, images)) <= 1e-5
    assert relative_difference(maps, expected.reshape(2, 3, 3)) <= 1e-5


@pytest.mark.parametrize(
    ("name", "image_size", "size", "arrays", "forward"),
    [
        ("beit_b16", 48, TINY_BEIT, float64_beit.beit_arrays(5, 48, **TINY_BEIT), float64_beit.forward),
        (
            "eva02_b14",
            42,
            TINY_EVA02,
            float64_eva02.eva02_arrays(5, 42, **TINY_EVA02),
            partial(float64_eva02.forward, num_heads=3),
        ),
    ],
)
def test_rollout_includes_position_biases_and_rotations(name, image_size, size, arrays, forward, tmp_path):
    model = create_model(name, num_classes=5, image_size=image_size, **size)
    safetensors.numpy.save_file(arrays, tmp_path / "tiny.safetensors")
    abstract = abstract_variables(model, image_size)
    variables = load_pretrained(str(tmp_path / "tiny.safetensors"), model, abstract, keep_head=True)
    images = random_images(2, image_size)
    logits, of_layers = forward(arrays, images)
    flow = np.eye(10)
    for weights in of_layers:
        flow = (weights.mean(1) + np.eye(10)) / 2 @ flow
    expected = flow[:, 1:, 1:].mean(1).reshape(2, 3, 3)
    method = family_of(name).explain
    found, maps = jax.jit(lambda variables: rollout(method, model, lambda: model.apply(variables, images)))(variables)
    assert relative_difference(found, logits) <= 1e-5
    assert relative_difference(maps, expected) <= 1e-5


def test_rollout_leaves_out_the_padding_of_cudnns_attention(monkeypatch):
    """The backend claims to be a GPU, and XLA computes in cuDNN's place. The 5 tokens are padded to 6."""
    model = create_model("vit_ti16", num_classes=5, image_size=32, dtype="bfloat16", **TINY_VIT)
    variables, images = init_variables(model, 32, 0), random_images(2, 32)

    def maps():
        forward = lambda: model.apply(variables, images)  # noqa: E731
        return jax.jit(lambda: rollout(FAMILIES["vit"].explain, model, forward)[1])()

    plain, by_xla = maps(), partial(attention.attend_fused, implementation="xla")
    monkeypatch.setattr(attention, "can_fuse", lambda *_: True)
    monkeypatch.setattr(attention, "attend_fused", by_xla)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(maps(), plain, atol=0.01)


def test_grad_cam_of_resnet_equals_its_class_activation_map():
    """With a mean and a linear classifier the gradient is weight / (H W) (arXiv:1610.02391, section 3.1)."""
    model = create_model("resnet18", num_classes=5, image_size=64, stage_sizes=(1, 1))
    variables = init_variables(model, 64, 0)
    images = random_images(3, 64)
    _, captured = model.apply(variables, images, capture_intermediates=lambda module, _: module.name == "layer2_0")
    features = np.float64(captured["intermediates"]["layer2_0"]["__call__"][0])
    assert features.shape[1:3] == (8, 8)
    chosen = np.array([4, 0, 2])
    kernel = np.float64(variables["params"]["head"]["kernel"])[:, chosen].T
    expected = np.maximum((features * kernel[:, None, None] / 64).sum(-1), 0)
    last = FAMILIES["resnet"].explain.features(model)
    logits, maps = jax.jit(lambda variables: grad_cam(last, lambda: model.apply(variables, images), chosen))(variables)
    assert relative_difference(logits, jax.jit(model.apply)(variables, images)) <= 1e-5
    assert relative_difference(maps, expected) <= 1e-4


def test_grad_cam_of_shallownet_equals_the_gradient_of_the_likeliest_class_by_hand():
    model = create_model("shallownet", num_classes=5, image_size=32)
    variables = init_variables(model, 32, 1)
    images = random_images(2, 32)
    _, captured = model.apply(variables, images, capture_intermediates=lambda module, _: module.name == "BatchNorm_1")
    features = np.float64(captured["intermediates"]["BatchNorm_1"]["__call__"][0])
    params = jax.tree.map(np.float64, variables["params"])
    side = features.shape[1] // 2
    windows = features.reshape(2, side, 2, side, 2, 32)
    pooled = windows.max((2, 4))
    flat = np.maximum(pooled, 0).reshape(2, -1)
    hidden = flat @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    last = FAMILIES["shallownet"].explain.features(model)
    logits, maps = jax.jit(lambda variables: grad_cam(last, lambda: model.apply(variables, images)))(variables)
    # The backward pass by hand.
    chosen = params["head"]["kernel"][:, np.argmax(logits, axis=1)].T
    gradient = (hidden > 0) * chosen @ params["Dense_0"]["kernel"].T
    gradient = gradient.reshape(pooled.shape) * (pooled > 0)
    gradient = gradient[:, :, None, :, None] * (windows == pooled[:, :, None, :, None])
    weights = gradient.reshape(features.shape).mean((1, 2), keepdims=True)
    expected = np.maximum((weights * np.maximum(features, 0)).sum(-1), 0)
    assert relative_difference(maps, expected) <= 1e-4


def _probability_without(recognize, faces, class_ids, maps, quarter):
    """Returns the mean probability of the classes with the hottest or coldest quarter of each face in grey."""
    covered = faces.copy()
    for image, heat in zip(covered, maps, strict=True):
        heat = np.asarray(Image.fromarray(heat).resize(image.shape[:2], Image.Resampling.BILINEAR))
        order = np.argsort(heat.ravel(), kind="stable")
        count = heat.size // 4
        image.reshape(-1, 3)[order[-count:] if quarter == "hottest" else order[:count]] = 128
    return np.mean([recognize(image)[class_id] for image, class_id in zip(covered, class_ids, strict=True)])


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_new_faces(folder, 2)
    return folder


def test_explainer_map_marks_the_pixels_that_the_prediction_needs(bundle_path, faces):
    explainer = Explainer(load_bundle(str(bundle_path)))
    images = np.stack([resize(Image.open(file).convert("RGB"), 32, "squash") for file in find_images([str(faces)])])
    explained = [explainer.explain(image) for image in images]
    class_ids = [int(probabilities.argmax()) for probabilities, _ in explained]
    maps = [heat for _, heat in explained]
    without = {
        quarter: _probability_without(lambda image: explainer.explain(image)[0], images, class_ids, maps, quarter)
        for quarter in ("hottest", "coldest")
    }
    assert without["hottest"] < without["coldest"] - 0.1, without


def test_explain_writes_overlays_beside_images_and_find_images_skips_them(bundle_path, faces, tmp_path, capsys):
    first = find_images([str(faces)])[0]
    image = Image.open(first).convert("RGB")
    (tmp_path / "a b").mkdir()
    image.resize((1500, 750)).save(tmp_path / "a b" / "wide.png")
    (tmp_path / "a b" / "text.png").write_text("no image")
    command = ["animesion", "explain", f"--bundle={bundle_path}"]
    assert main([*command, str(tmp_path / "a b")]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["path"].rpartition("/")[2] for row in rows] == ["text.png", "wide.png"]
    assert "not a readable image" in rows[0]["error"]
    with Image.open(tmp_path / "a b" / "wide.png.explained.png") as drawn:
        assert (drawn.size, drawn.mode) == ((1024, 512), "RGB")
    assert find_images([str(tmp_path)]) == [tmp_path / "a b" / "text.png", tmp_path / "a b" / "wide.png"]
    name = load_bundle(str(bundle_path)).classes[3]
    assert main([*command, f"--class_name={name}", f"--output={tmp_path / 'new'}", str(first)]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["class"], row["overlay"]) == (name, str(tmp_path / "new" / f"{first.name}.explained.png"))


def test_explain_with_a_detector_explains_each_head(bundle_path, faces, tmp_path, monkeypatch, capsys):
    detector, shown = KnownBoxes(), [Image.open(file).convert("RGB") for file in find_images([str(faces)])[:2]]
    monkeypatch.setattr(heads, "load_detector", detector.load)
    picture = Image.new("RGB", (400, 200), "white")
    for place, face in enumerate(shown):
        picture.paste(face.resize((64, 64)), (20 + 100 * place, 50))
    detector.write(tmp_path / "two.jpg.png", picture, [(120, 50, 184, 114), (20, 50, 84, 114)])
    detector.write(tmp_path / "none.png", Image.new("RGB", (60, 60)), [])
    (tmp_path / "text.png").write_text("no image")
    long = f"{'x' * 238}.png"  # its overlays' names take 16 bytes more
    detector.write(tmp_path / long, picture, [(20, 50, 84, 114)])
    command = ["animesion", "explain", f"--bundle={bundle_path}", "--detector=boxes.onnx", "--min_confidence=0.1"]
    assert main([*command, f"--output={tmp_path / 'out'}", str(tmp_path)]) == 1
    rows = {row.pop("path"): row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert detector.loaded == ("boxes.onnx", 0.1) and len(rows) == 4
    assert rows[str(tmp_path / "none.png")] == {"faces": []}
    assert "not a readable image" in rows[str(tmp_path / "text.png")]["error"]
    assert "File name too long" in rows[str(tmp_path / long)]["error"]
    first, second = rows[str(tmp_path / "two.jpg.png")]["faces"]
    assert (first["box"], first["confidence"]) == ([120, 50, 184, 114], 0.875)
    assert (second["box"], second["confidence"]) == ([20, 50, 84, 114], 0.75)
    recognizer, explainer = load(str(bundle_path)), Explainer(load_bundle(str(bundle_path)))
    for number, (row, face) in enumerate(zip((first, second), shown[::-1], strict=True), start=1):
        crop = face.resize((64, 64))
        ((named,),) = recognizer.predict(crop, top_k=1)
        assert (row["class"], row["probability"]) == (named["class"], pytest.approx(named["probability"], abs=1e-6))
        assert row["overlay"] == str(tmp_path / "out" / f"two.jpg.png.{number}.explained.png")
        expected = overlay(crop, explainer.explain(resize(crop, 32, "squash"))[1], "squash")
        np.testing.assert_array_equal(np.asarray(Image.open(row["overlay"])), np.asarray(expected))
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_explain_continues_after_an_overlay_with_a_too_long_name(bundle_path, tmp_path, monkeypatch):
    """Prints JSON in UTF-8 where the terminal's encoding lacks letters."""
    monkeypatch.setenv("HOME", str(tmp_path))
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="latin-1"))
    names = [f"{'あ' * 79}.png", f"{'あ' * 80}.png", "ん\u2028é.png"]  # the overlay's name takes 14 bytes more
    for name in names:
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    assert main(["animesion", "explain", f"--bundle={bundle_path}", "--output=~/x", str(tmp_path)]) == 1
    rows = [json.loads(line) for line in printed.getvalue().decode().splitlines()]
    assert [row["path"].rpartition("/")[2] for row in rows] == names
    assert ["error" in row for row in rows] == [False, True, False]
    assert "File name too long; shorten or change the name" in rows[1]["error"]
    expected = {f"{name}.explained.png" for name in names[::2]}
    assert {file.name for file in (tmp_path / "x").iterdir()} == expected


def test_explain_in_a_read_only_folder_names_the_flag(bundle_path, tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "face.png")

    def refuse(self, path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    explainer = Explainer(load_bundle(str(bundle_path)))
    monkeypatch.setattr(Image.Image, "save", refuse)
    with pytest.raises(InputError, match=r"cannot be written to: Permission denied; .*--output=FOLDER"):
        next(explain_files(explainer, [tmp_path / "face.png"]))


def test_explain_files_refuses_invalid_input(bundle_path, tmp_path):
    explainer = Explainer(load_bundle(str(bundle_path)))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "face.png")
    with pytest.raises(InputError, match=r"unknown character 'Nobody'; allowed: .* \.\.\."):
        next(explain_files(explainer, [tmp_path / "a" / "face.png"], "Nobody"))
    with pytest.raises(InputError, match=r"2 images have the same overlay .*face\.png\.explained\.png"):
        next(explain_files(explainer, find_images([str(tmp_path)]), None, str(tmp_path / "out")))
    vit = create_model("vit_ti16", num_classes=2, image_size=32, **TINY_VIT)
    bundle = Bundle(vit, init_variables(vit, 32, 0), ("A", "B"), 32, (0.5,) * 3, (0.5,) * 3, {}, {"name": "vit_ti16"})
    with pytest.raises(InputError, match="--class_name=A: the model is a transformer"):
        next(explain_files(Explainer(bundle), [tmp_path / "a" / "face.png"], "A"))


def test_colours_are_matplotlibs_turbo():
    expected = 255 * matplotlib.colormaps["turbo"](np.arange(256))[None, :, :3]
    np.testing.assert_allclose(colour(np.arange(256)[None] / 255), expected, atol=2)


def test_overlay_keeps_the_image_where_the_map_is_0_and_is_red_where_it_is_1():
    image = Image.new("RGB", (40, 20), (100, 100, 100))
    heat = np.zeros((4, 8), np.float32)
    heat[:, 4:] = 1
    drawn = np.asarray(overlay(image, heat, "squash")).astype(int)
    assert drawn.shape == (20, 40, 3)
    np.testing.assert_array_equal(drawn[:, :10], np.full((20, 10, 3), 100))
    assert (drawn[:, -8:, 0] > drawn[:, -8:, 2] + 15).all()
