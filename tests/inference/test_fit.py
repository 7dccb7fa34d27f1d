"""A run with config.fit "pad" on images that are not square: the same pixels in training, evaluation and prediction."""

import base64
import dataclasses
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

import animesion_jax
from animesion_jax.bundle import load_bundle
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.data.train_data import TrainData
from animesion_jax.export.calibrate import calibrate
from animesion_jax.inference.evaluate import evaluate as evaluate_bundle
from animesion_jax.inference.explain import Explainer, colour, overlay
from animesion_jax.inference.overlays import explain_files
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.preprocessing import resize
from animesion_jax.training.evaluate import evaluate as evaluate_run
from animesion_jax.workdir import run
from tests.character_folders import stored_records, toy_folder_config

NAMES = ("ai", "mi ku")
# Width and height. TensorFlow and Pillow compute the same pixels for these at 16 and 20 px.
SHAPES = ((40, 12), (11, 30), (30, 30), (40, 1))


def _image(number):
    """Returns an image of blocks of 3 x 3 pixels."""
    width, height = SHAPES[number % len(SHAPES)]
    pixels = np.random.default_rng(number).integers(0, 256, (10, 14, 3), np.uint8)
    return Image.fromarray(pixels.repeat(3, axis=0).repeat(3, axis=1)[:height, :width])


def _pixels(image, size=16):
    """Returns the pixels of an image that Pillow pads; the padding is even or has its smaller half first."""
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    square = ImageOps.expand(image, (left, top, side - image.width - left, side - image.height - top), "white")
    return resize(square, size, "squash")


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    """(folder of images, workdir, calibrated bundle) of a run with fit "pad"; the bundle's `unknown` are ten images."""
    root = tmp_path_factory.mktemp("padded")
    for number in range(40):
        path = root / "faces" / NAMES[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _image(number).save(path)
    (root / "others").mkdir()
    for number in range(100, 110):
        _image(number).save(root / "others" / f"{number}.png")
    config = toy_folder_config(root / "faces", root / "data")
    config.fit = "pad"
    animesion_jax.train(config, root / "run")
    others = sorted((root / "others").iterdir())
    bundle = animesion_jax.export_bundle(root / "run", root / "b.msgpack", unknown=others, false_accept_rate=0.3)
    return root / "faces", str(root / "run"), str(bundle)


def _sorted_bytes(images):
    return sorted(np.asarray(image).tobytes() for image in images)


@pytest.mark.parametrize("cache", ["decoded", "encoded", "none"])
def test_training_and_evaluation_read_the_pixels_of_predict(padded, cache):
    config = run.read_config(padded[1])
    config.data.cache = cache
    dataset = load_dataset(config.dataset, config.data_dir)
    records = stored_records(dataset.builder)
    images = {
        split: [Image.open(io.BytesIO(each["image"])) for each in records.values() if each["split"] == split]
        for split in ("train", "test")
    }
    config.batch_size = len(images["train"])
    (batch,) = TrainData(config, dataset).batches(epochs=1)
    assert batch["image"].shape[1] == 20
    assert _sorted_bytes(batch["image"]) == _sorted_bytes(_pixels(image, 20) for image in images["train"])
    batches = list(EvalData(config, dataset, "test").batches())
    read = [image for batch in batches for image in batch["image"][batch["mask"] > 0]]
    assert _sorted_bytes(read) == _sorted_bytes(map(_pixels, images["test"]))


def test_predictions_and_embeddings_are_those_of_the_padded_images(padded):
    recognizer = animesion_jax.load(padded[2])
    assert recognizer.bundle.fit == "pad" and recognizer.bundle.training["config"]["fit"] == "pad"
    files = sorted(padded[0].rglob("*.png"))[:12]
    pixels = np.stack([_pixels(Image.open(file)) for file in files])
    expected = [recognizer.rank(row, 2) for row in recognizer.probabilities(pixels)]
    assert recognizer.predict(files, 2) == expected
    assert [row["predictions"] for row in recognizer.predict_files(files, 2)] == expected
    embeddings = recognizer.embeddings(pixels)
    np.testing.assert_array_equal([row for _, row in recognizer.embed_files(files)], embeddings)
    squashing = Recognizer(dataclasses.replace(recognizer.bundle, fit="squash"))
    assert squashing.predict(files[0]) != recognizer.predict(files[0])


def test_evaluate_of_the_run_and_of_its_bundle_agree(padded, tmp_path):
    config = run.read_config(padded[1])
    records = stored_records(load_dataset(config.dataset, config.data_dir).builder)
    test = {name for name, record in records.items() if record["split"] == "test"}
    labelled = [(padded[0] / name, name.split("/")[0]) for name in sorted(test)]
    # The calibration's temperature changes the loss.
    bundle = dataclasses.replace(load_bundle(padded[2]), calibration=None)
    of_bundle, of_run = evaluate_bundle(bundle, labelled)[0], evaluate_run(padded[1], "test")
    assert of_bundle["loss"] == pytest.approx(of_run["loss"], rel=1e-5)
    for name in ("examples", "top1_accuracy"):
        assert of_bundle[name] == of_run[name]
    squashed, _ = evaluate_bundle(dataclasses.replace(bundle, fit="squash"), labelled)
    assert squashed["loss"] != pytest.approx(of_run["loss"], rel=1e-5)


def test_calibrate_follows_the_bundles_fit(padded, tmp_path):
    others = sorted((padded[0].parent / "others").iterdir())
    recognizer = animesion_jax.load(padded[2])
    likeliest = recognizer.probabilities(np.stack([_pixels(Image.open(file)) for file in others])).max(1)
    calibration = recognizer.bundle.calibration
    assert calibration.false_accept_rate == 0.3
    assert (likeliest >= calibration.threshold).sum() == 3
    # A run whose config.fit was changed is read as its bundle says.
    changed = shutil.copytree(padded[1], tmp_path / "run")
    text = (changed / "config.json").read_text()
    assert '"fit": "pad"' in text
    (changed / "config.json").write_text(text.replace('"fit": "pad"', '"fit": "squash"'))
    _, again = calibrate(padded[2], str(changed), str(tmp_path / "b.msgpack"), false_accept_rate=0.3, unknown=others)
    assert again == dataclasses.asdict(calibration)


def test_explain_draws_the_part_of_the_map_that_the_image_fills(padded, tmp_path):
    explainer = Explainer(load_bundle(padded[2]))
    file = tmp_path / "wide.png"
    image = _image(0).resize((400, 120))
    image.save(file)
    (row,) = explain_files(explainer, [file])
    probabilities, heat = explainer.explain(_pixels(image))
    assert row["probability"] == float(probabilities.max())
    drawn = np.asarray(Image.open(row["overlay"]))
    # The whole square, drawn and cut; at the edges, both interpolate the map's values beyond the image.
    square = Image.fromarray(heat).resize((400, 400), Image.Resampling.BICUBIC)
    cut = np.asarray(square).clip(0, 1)[140:260, :, None]
    expected = (1 - 0.6 * cut) * np.asarray(image) + 0.6 * cut * colour(cut[..., 0])
    np.testing.assert_allclose(drawn, expected, atol=1)


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (1, 5000), (5000, 1)])
def test_overlay_leaves_out_the_map_of_the_padding(shape):
    heat = np.ones((40, 40), np.float32)
    heat[:, 7:33] = 0  # interpolation reaches three cells beyond the image
    if shape[0] > shape[1]:
        heat = heat.T
    image = Image.new("RGB", shape, (100, 100, 100))
    drawn = overlay(image, heat, "pad")
    assert (np.asarray(drawn) == 100).all() and max(drawn.size) == min(max(shape), 1024)
    assert (np.asarray(overlay(image, heat, "squash")) != 100).any()


def test_serve_answers_like_predict_and_shows_the_overlay_of_explain(padded, tmp_path):
    pytest.importorskip("gradio", reason="the extra [serve] is not installed")
    from animesion_jax.serve.cards import render
    from animesion_jax.serve.service import Service

    file = tmp_path / "wide.png"
    _image(0).resize((400, 120)).save(file)
    service = Service(padded[2], max_file_mb=1, max_images=1, top_k=2)
    explained, image, (heat,) = service.explain(file, file.stat().st_size, "wide.png")
    for answer in (service.answer(file, file.stat().st_size, "wide.png"), explained):
        (expected,) = animesion_jax.load(padded[2]).predict(file, 2)
        for found, each in zip(answer["predictions"], expected, strict=True):
            assert found == each | {"probability": pytest.approx(each["probability"], rel=1e-5)}
    figures = re.findall(r"base64,([^\"]+)", render(service, [file]))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(figures[1]))), int)
    drawn = {fit: overlay(image, heat, fit) for fit in ("pad", "squash")}
    for each in drawn.values():
        each.thumbnail((224, 224))
    differences = {fit: np.abs(shown - np.asarray(each)).mean() for fit, each in drawn.items()}
    assert differences["pad"] < 3 and differences["pad"] < 0.7 * differences["squash"], differences
