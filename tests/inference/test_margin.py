"""The margin that is found on pictures whose faces are a known part of the detector's boxes."""

import dataclasses
import hashlib
import json

import flax.linen as nn
import flax.serialization
import numpy as np
import pytest
from PIL import Image
from scipy import special

from animesion_jax.bundle import Bundle, load_bundle
from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from animesion_jax.inference import heads, margin
from animesion_jax.inference.forward import apply_to_pixels
from animesion_jax.inference.margin import MARGINS, MarginResult, describe, find_margin
from animesion_jax.main import main
from animesion_jax.models import HEAD
from animesion_jax.preprocessing import Margin, crop, resize
from tests.detection.onnx_files import write_blob_detector
from tests.hostile_seeds import CALIBRATION, bundle_tree
from tests.known_boxes import KnownBoxes

SIZE = 16
NAMES = ("mio", "yui")


class Nearest(nn.Module):
    """Names the class whose template is nearest to the image."""

    classes: int

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.classes, name=HEAD)(images.reshape(len(images), -1))


def nearest(templates, names, fit="squash"):
    """Returns the bundle of `Nearest` for (classes, SIZE, SIZE, 3) uint8 templates."""
    flat = (np.float32(templates).reshape(len(names), -1) / 255 - 0.5) / 0.5
    params = {HEAD: {"kernel": flat.T, "bias": -0.5 * (flat**2).sum(1)}}
    return Bundle(Nearest(len(names)), {"params": params}, names, SIZE, (0.5,) * 3, (0.5,) * 3, {}, {}, fit=fit)


def _squared(pixels, fit):
    """Returns pixels as (SIZE, SIZE, 3) by Pillow."""
    if fit == "pad":
        side = max(pixels.shape[:2])
        top, left = (side - pixels.shape[0]) // 2, (side - pixels.shape[1]) // 2
        square = np.full((side, side, 3), 255, np.uint8)
        square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        pixels = square
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _draw(folder, detector, truth, width, height, count=12):
    """Writes noisy pictures with a face of each character, and tells the detector the box around which they are.

    Returns the (file, character) of each picture, and the templates of the characters and of other parts of pictures.
    """
    draw, images, templates, others = np.random.default_rng(5), [], [], []
    for name in NAMES:
        coarse = draw.integers(0, 256, (8, 6, 3), np.uint8)
        face = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))
        for number in range(count):
            picture = draw.integers(0, 256, (400, 300, 3), np.uint8)
            left, top = draw.integers(60, 140, 2)
            picture[top : top + height, left : left + width] = face
            # The box's sides are the face's over the scale; its centre is lower by the shift.
            half_width, half_height = width / truth.scale / 2, height / truth.scale / 2
            x, y = left + width / 2, top + height / 2 + truth.shift * 2 * half_height
            box = tuple(round(edge) for edge in (x - half_width, y - half_height, x + half_width, y + half_height))
            path = folder / name / f"{number}.png"
            images.append((detector.write(path, Image.fromarray(picture), [box]), name))
        templates.append(_squared(face, truth.fit))
        wrong = [each for each in MARGINS if each.fit == truth.fit and each != truth]
        others += [_squared(np.asarray(crop(Image.fromarray(picture), box, each)), truth.fit) for each in wrong]
    return images, templates + others


@pytest.mark.parametrize(
    ("truth", "width", "height"),
    [
        (Margin(1.6, 0.2, "squash"), 96, 96),
        (Margin(0.8, -0.1, "squash"), 96, 96),
        (Margin(1.2, 0.3, "pad"), 72, 120),
        (Margin(1.2, 0.0, "squash"), 72, 120),
    ],
)
def test_find_margin_finds_the_margin_of_the_pictures(tmp_path, truth, width, height):
    detector = KnownBoxes()
    images, templates = _draw(tmp_path, detector, truth, width, height)
    bundle = nearest(templates, (*NAMES, *map(str, range(len(templates) - 2))), fit=truth.fit)
    crops, tried = find_margin(bundle, detector, images)
    assert crops.margin == truth and (crops.detector, crops.sha256) == ("boxes.onnx", "a" * 64)
    assert detector.calls == len(images) == crops.source["images"] == 24
    found = {each.margin: each for each in tried}
    assert len(tried) == len(MARGINS) == len(found)
    assert (found[truth].top1_accuracy, found[Margin(1.0, 0.0, truth.fit)].top1_accuracy) == (1.0, 0.0)
    assert found[truth].loss == min(each.loss for each in tried) < 0.01
    assert crops.source["top1_accuracy_of_box"] == 0 and crops.source["top1_accuracy_held_out"] == 1
    assert crops.source["loss_of_box"] == found[Margin(1.0, 0.0, truth.fit)].loss
    assert find_margin(bundle, detector, images) == (crops, tried)


def test_find_margin_around_the_boxes_of_an_onnx_file(tmp_path):
    """Each face has a red square of 80 px in it, which the detector finds: 1/1.4 of the face, 8 px below its middle."""
    detector = load_detector(str(write_blob_detector(tmp_path / "d.onnx")))
    truth = Margin(1.4, 0.1, "squash")
    draw, images, templates, others = np.random.default_rng(1), [], [], []
    for name in NAMES:
        coarse = Image.fromarray(draw.integers(0, 150, (7, 7, 3), np.uint8))
        face = coarse.resize((112, 112), Image.Resampling.NEAREST)
        face.paste((255, 0, 0), (16, 24, 96, 104))
        templates.append(_squared(np.asarray(face), "squash"))
        for number in range(10):
            picture = Image.fromarray(draw.integers(0, 150, (320, 320, 3), np.uint8))
            left, top = (int(place) for place in 20 * draw.integers(2, 10, 2))
            picture.paste(face, (left - 16, top - 24))
            assert [found.box for found in detector(picture)] == [(left, top, left + 80, top + 80)]
            path = tmp_path / f"{name}{number}.png"
            picture.save(path)
            images.append((path, name))
        box = (left, top, left + 80, top + 80)
        wrong = [each for each in MARGINS if each.fit == "squash" and each != truth]
        others += [_squared(np.asarray(crop(picture, box, each)), "squash") for each in wrong]
    crops, _ = find_margin(nearest(templates + others, (*NAMES, *map(str, range(len(others))))), detector, images)
    assert crops.margin == truth and crops.detector == "d.onnx"
    assert crops.sha256 == hashlib.sha256((tmp_path / "d.onnx").read_bytes()).hexdigest()
    assert (crops.source["top1_accuracy"], crops.source["top1_accuracy_of_box"]) == (1.0, 0.0)


def test_results_of_every_margin_are_those_of_its_crops(tmp_path):
    """Equal crops go through the model once; a head in the corner has many."""
    detector = KnownBoxes()
    images, templates = _draw(tmp_path, detector, Margin(1.6, 0.2, "squash"), 96, 96, count=3)
    for key, box in zip(
        sorted(detector.boxes), ((0, 0, 180, 160), (250, 340, 300, 400), (40, 0, 200, 290)), strict=False
    ):
        detector.boxes[key] = [box]
    bundle = nearest(templates[:9], tuple("abcdefghi"))
    bundle = dataclasses.replace(bundle, classes=(*NAMES, *"cdefghi"))
    _, tried = find_margin(bundle, detector, images)
    head, losses, right = bundle.variables["params"][HEAD], [], []
    for each in MARGINS:
        for file, name in images:
            image = Image.open(file)
            ((box, _),) = detector(image)
            pixels = np.float64(resize(crop(image, box, each), SIZE, each.fit)) / 255 * 2 - 1
            logits = pixels.ravel() @ np.float64(head["kernel"]) + head["bias"]
            losses.append(special.logsumexp(logits) - logits[NAMES.index(name)])
            right.append(logits.argmax() == NAMES.index(name))
    np.testing.assert_allclose([each.loss for each in tried], np.reshape(losses, (-1, 6)).mean(1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose([each.top1_accuracy for each in tried], np.reshape(right, (-1, 6)).mean(1))


def _pictures(folder, detector, heads, name="mio"):
    """Writes a picture with each number of heads; returns the (file, character) of each."""
    white = Image.new("RGB", (60, 60), "white")
    return [
        (detector.write(folder / name / f"{number}.png", white, [(20, 20, 40, 40)] * count), name)
        for number, count in enumerate(heads)
    ]


def test_find_margin_uses_pictures_with_one_head_and_counts_the_others(tmp_path, caplog):
    detector, bundle = KnownBoxes(), nearest(np.zeros((2, SIZE, SIZE, 3), np.uint8), NAMES)
    images = _pictures(tmp_path, detector, [1, 0, 1, 3, 0, 1]) + _pictures(tmp_path, detector, [1], "nobody")
    (tmp_path / "broken.png").write_text("no picture")
    crops, _ = find_margin(bundle, detector, [*images, (tmp_path / "broken.png", "yui")])
    assert crops.source["images"] == 3
    assert crops.source["left_out"] == {"unreadable": 1, "no_head": 2, "several_heads": 1}
    assert "not in the bundle are left out: 'nobody' (images: 1)" in caplog.text
    assert "broken.png is left out" in caplog.text and "chosen on 3 pictures only; give 20 or more" in caplog.text
    # Both templates are equal, and so are all margins.
    assert crops.margin == Margin(1.0, 0.0, "squash") and crops.source["loss"] == pytest.approx(np.log(2))
    assert crops.source["top1_accuracy"] == crops.source["top1_accuracy_held_out"] == 1
    assert str(tmp_path) not in str(crops.to_tree())


def test_find_margin_refuses_pictures_without_one_head(tmp_path):
    detector, bundle = KnownBoxes(), nearest(np.zeros((2, SIZE, SIZE, 3), np.uint8), NAMES)
    images = _pictures(tmp_path, detector, [1, 0, 0, 2])
    with pytest.raises(InputError, match=r"1 of 4 pictures have exactly one head \(unreadable 0, no_head 2, .*several"):
        find_margin(bundle, detector, images)
    with pytest.raises(InputError, match="no folder is named after a character"):
        find_margin(bundle, detector, [(file, "nobody") for file, _ in images])


def test_find_margin_takes_pictures_of_all_characters_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(margin, "MAX_PICTURES", 5)
    detector, bundle = KnownBoxes(), nearest(np.zeros((2, SIZE, SIZE, 3), np.uint8), NAMES)
    images = _pictures(tmp_path, detector, [1] * 6) + [
        (f, "yui") for f, _ in _pictures(tmp_path, detector, [1] * 6, "yuis")
    ]
    crops, _ = find_margin(bundle, detector, images)
    assert crops.source["images"] == detector.calls == 4 and crops.source["top1_accuracy"] == 0.5


def test_find_margin_compiles_the_model_once(tmp_path, monkeypatch):
    traces = []
    monkeypatch.setattr(
        margin, "apply_to_pixels", lambda *given: traces.append(given[2].shape) or apply_to_pixels(*given)
    )
    detector, bundle = KnownBoxes(), nearest(np.zeros((2, SIZE, SIZE, 3), np.uint8), NAMES)
    find_margin(bundle, detector, _pictures(tmp_path, detector, [1] * 5))
    assert traces == [(margin.BATCH_SIZE, SIZE, SIZE, 3)]


def test_best_margin_has_the_highest_accuracy_then_the_fit_then_the_lowest_loss_then_the_smallest_change():
    correct, losses = np.zeros((4, len(MARGINS)), bool), np.full((4, len(MARGINS)), 3.0)

    def best(fit="squash"):
        return MARGINS[margin._Results(correct, losses).best(fit)]

    assert best("squash") == Margin(1.0, 0.0, "squash") and best("pad") == Margin(1.0, 0.0, "pad")
    wide, wider = MARGINS.index(Margin(1.6, 0.1, "pad")), MARGINS.index(Margin(1.8, 0.1, "pad"))
    losses[:, wider] = 2.5
    assert best("squash") == Margin(1.0, 0.0, "squash") and best("pad") == MARGINS[wider]
    correct[:2, [wide, wider]] = True
    losses[:2, wide] = 1.0
    assert best() == MARGINS[wide]
    correct[3, wider] = True
    assert best() == MARGINS[wider]


def test_held_out_accuracy_is_of_margins_that_the_other_half_chose(monkeypatch, tmp_path):
    """Even pictures are right with one margin only, odd ones with another."""
    detector, bundle = KnownBoxes(), nearest(np.zeros((2, SIZE, SIZE, 3), np.uint8), NAMES)
    correct, losses = np.zeros((8, len(MARGINS)), bool), np.ones((8, len(MARGINS)))
    correct[::2, 3], correct[1::2, 30], correct[0, 30] = True, True, True
    monkeypatch.setattr(margin, "_measure", lambda *_: (margin._Results(correct, losses), {}))
    crops, _ = find_margin(bundle, detector, [(tmp_path / "a.png", "mio")] * 8)
    # 30 is chosen on all and by the odd half, which leaves picture 0 right; the even half chooses 3.
    assert crops.margin == MARGINS[30] and crops.source["top1_accuracy"] == 5 / 8
    assert crops.source["top1_accuracy_held_out"] == 1 / 8


def test_describe_shows_every_result_and_marks_the_chosen_margin():
    tried = [MarginResult(each, place / 1000, 1 + place / 100) for place, each in enumerate(MARGINS)]
    chosen = Margin(1.8, 0.1, "pad")
    squash, pad = describe(tried, chosen).split("\n\n")
    assert "fit squash:" in squash and "fit pad:" in pad and "*" not in squash
    assert max(map(len, pad.splitlines())) < 80
    for text, fit in ((squash, "squash"), (pad, "pad")):
        rows = [line.split() for line in text.splitlines()[2:]]
        assert [float(row[0]) for row in rows] == list(margin.SCALES)
        shown = {(float(row[0]), shift): row[1 + 2 * place : 3 + 2 * place]
                 for row in rows for place, shift in enumerate(margin.SHIFTS)}  # fmt: skip
        for each in tried:
            if each.margin.fit == fit:
                mark = "*" if each.margin == chosen else ""
                assert shown[each.margin[:2]] == [f"{each.top1_accuracy:.1%}", f"{each.loss:.2f}{mark}"]
    same = [each._replace(top1_accuracy=0.5, loss=2.0) for each in tried]
    assert describe(same, chosen).count("fit squash or pad:") == 1 and describe(same, chosen).count("*") == 1


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A detector, and a folder with a bundle of zeros, b.msgpack, and pictures/ of its two characters."""
    monkeypatch.chdir(tmp_path)
    detector = KnownBoxes()
    monkeypatch.setattr(heads, "load_detector", detector.load)
    content = flax.serialization.msgpack_serialize(bundle_tree() | {"calibration": CALIBRATION})
    (tmp_path / "b.msgpack").write_bytes(content)
    for name in ("YUI", "あかり"):
        _pictures(tmp_path / "pictures", detector, [1, 1, 0], name)
    return detector


def test_calibrate_stores_the_margin_and_prints_every_result(place, capsys):
    arguments = ["--bundle=b.msgpack", "--detector=/away/boxes.onnx", "--min_confidence=0.3", "--pictures=pictures"]
    assert main(["animesion", "calibrate", *arguments]) == 0
    captured = capsys.readouterr()
    printed, bundle = json.loads(captured.out), load_bundle("b.msgpack")
    assert place.loaded == ("/away/boxes.onnx", 0.3)
    assert printed == {"bundle": "b.msgpack", **bundle.crops.to_tree()} and bundle.calibration.threshold == 0.6
    assert bundle.crops.margin == Margin(1.0, 0.0, "squash") and bundle.crops.sha256 == "a" * 64
    assert bundle.crops.source["images"] == 4 and bundle.crops.source["left_out"]["no_head"] == 2
    assert captured.err.count("50.0% 0.69") == len(MARGINS) / 2 and "50.0% 0.69*" in captured.err
    # The bundle has the name of the detector's file only.
    assert main(["animesion", "calibrate", "--bundle=b.msgpack", "--pictures=pictures", "--output=c.msgpack"]) == 2
    assert "local file boxes.onnx; give its path: --detector=FOLDER/boxes.onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "neither of --workdir and --pictures given; allowed: --workdir=RUN"),
        (["--workdir=run", "--pictures=pictures"], "both of --workdir and --pictures given"),
        (["--workdir=run", "--detector=x.xml"], "--detector is for --pictures, not for --workdir"),
        (["--workdir=run", "--min_confidence=0"], "--min_confidence is for --pictures"),
        (["--pictures=pictures", "--split=test"], "--split is for --workdir, not for --pictures"),
        (["--pictures=pictures", "--unknown", "pictures"], "--unknown is for --workdir"),
        (["--pictures=pictures/YUI"], "holds no folder"),
        (["--pictures=nowhere"], "nowhere"),
        (
            ["--pictures=split", "--detector=x.xml"],
            "animesion calibrate --bundle=b.msgpack --detector=x.xml --pictures=",
        ),
    ],
)
def test_calibrate_refuses_flags_that_do_not_go_together(place, tmp_path, capsys, arguments, words):
    for name in ("train/yui", "test/yui"):
        _pictures(tmp_path / "split", place, [1], name)
    before = (tmp_path / "b.msgpack").read_bytes()
    assert main(["animesion", "calibrate", "--bundle=b.msgpack", *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and words in message, message
    assert (tmp_path / "b.msgpack").read_bytes() == before
