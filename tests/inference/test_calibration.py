"""The calibration's parts against the values that made the data, and predictions of calibrated bundles."""

import json

import flax.serialization
import numpy as np
import pytest
from scipy import special
from sklearn.metrics import log_loss, roc_curve

from animesion_jax.bundle import load_bundle
from animesion_jax.data.datasets import load_dataset
from animesion_jax.data.eval_data import EvalData
from animesion_jax.inference import calibration
from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from animesion_jax.workdir.run import read_config
from tests.hostile_seeds import bundle_tree

DRAW = np.random.default_rng(7)


def _draw_labels(logits):
    """Returns labels drawn from the softmax of the logits, whose temperature is therefore 1."""
    return np.argmax(logits + DRAW.gumbel(size=logits.shape), axis=1)


@pytest.mark.parametrize("temperature", [0.4, 3.0])
def test_fit_temperature_finds_the_factor_of_the_logits(temperature):
    logits = 2 * DRAW.normal(size=(20_000, 6))
    found = calibration.fit_temperature(np.float32(logits * temperature), _draw_labels(logits))
    assert found == pytest.approx(temperature, rel=0.04)


def test_fit_temperature_of_perfect_logits_stays_above_zero():
    """The likeliest temperature of perfect logits is 0; with smoothed labels it has a closed form."""
    logits = 3.0 * np.eye(5)[np.arange(20) % 5]
    found = calibration.fit_temperature(logits, np.arange(20) % 5)
    # Probability 21/22, and 1/22 for the other four: the distance of the logits is log(21 / (1 / 4)).
    assert found == pytest.approx(3 / np.log(84), rel=1e-3)
    embeddings = np.eye(5)[np.arange(20) % 5]
    scale, offset = calibration.fit_similarity(logits / found, embeddings, np.arange(20) % 5)
    assert np.isfinite([scale, offset]).all() and scale < 100


def test_impostor_scores_leave_out_the_own_class():
    scores = calibration.impostor_scores(np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.asarray([0, 1]))
    np.testing.assert_allclose(scores, [2 / 3, 6 / 7])


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.29, 0.9975])
def test_threshold_accepting_names_exactly_the_rate_of_impostors(rate):
    impostors = np.float32(DRAW.uniform(size=400))
    threshold = calibration.threshold_accepting(impostors, rate)
    allowed = {0.001: 0, 0.1: 40, 0.29: 116, 0.9975: 399}[rate]
    assert (impostors >= threshold).sum() == allowed
    assert (impostors >= threshold - 0.02).sum() > allowed


@pytest.mark.parametrize(
    ("images", "allowed"), [(1, 0), (2, 0), (19, 0), (20, 1), (39, 1), (40, 2), (192, 9), (1_000, 50)]
)
def test_threshold_rejecting_rejects_exactly_the_rate_of_known_images_rounded_down(images, allowed):
    known = np.float32(DRAW.permutation(np.linspace(0.2, 1.0, images)))
    threshold = calibration.threshold_rejecting(known, 0.05)
    assert (known < threshold).sum() == allowed
    # Another batch size rounds confidences differently.
    assert (known * (1 - 1e-5) < threshold).sum() == allowed == (known * (1 + 1e-5) < threshold).sum()


@pytest.mark.parametrize(
    ("known", "threshold"),
    [
        # Of 20 images one may be rejected: the next lower confidence is 0.4.
        ([0.4] + [0.8] * 19, 0.6),
        # Two equal ones are one too many.
        ([0.4] * 2 + [0.8] * 18, 0.4 * 0.999),
        ([0.4] + [0.8, np.float64(0.8) + 1e-12] * 20, 0.6),
        ([0.7] * 40, 0.7 * 0.999),
        ([0.3] * 2 + [0.5] * 2 + [0.9] * 36, 0.4),
    ],
)
def test_threshold_rejecting_keeps_equal_confidences_together(known, threshold):
    assert calibration.threshold_rejecting(np.asarray(known), 0.05) == pytest.approx(threshold, rel=1e-6)


def test_threshold_rejecting_is_the_last_point_of_the_roc_curve_with_that_recall():
    """Of the thresholds that reject few enough known images, it accepts the fewest impostors."""
    draw = np.random.default_rng(0)
    for _ in range(100):
        known, impostors = np.float32(draw.beta(4, 2, 192)).round(2), np.float32(draw.beta(2, 3, 4_000))
        threshold = calibration.threshold_rejecting(known, 0.05)
        truth = np.repeat([1, 0], [192, 4_000])
        _, recalled, steps = roc_curve(truth, np.concatenate([known, impostors]), drop_intermediate=False)
        highest = known[known <= steps[np.argmax(recalled >= 0.95)]].max()
        assert np.mean(known < threshold) == np.mean(known < highest) <= 0.05
        assert threshold < highest and np.mean((known > threshold) & (known < highest)) == 0


def test_fit_similarity_finds_the_scale_and_offset_of_the_logits():
    """The logits are 14 * cosine - 4."""
    directions = np.eye(12)[:8]
    embeddings = directions[DRAW.integers(8, size=6_000)] + 0.25 * DRAW.normal(size=(6_000, 12))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    logits = 14 * embeddings @ directions.T - 4
    scale, offset = calibration.fit_similarity(logits, embeddings, _draw_labels(logits))
    assert (scale, offset) == (pytest.approx(14, rel=0.1), pytest.approx(-4, abs=0.6))


def test_similarities_leave_an_image_out_of_its_own_class_mean():
    """Random embeddings have a similarity of about 0, unless an image is part of the mean."""
    embeddings = DRAW.normal(size=(200, 30))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.arange(200) // 2
    similarities, own = calibration._similarities(embeddings, labels, np.arange(100))
    assert own.sum() == 200 and abs(similarities[own].mean()) < 0.05
    np.testing.assert_allclose(similarities[0, 0], embeddings[0] @ embeddings[1])
    assert calibration.fit_similarity(np.zeros((2, 2)), embeddings[:2], np.asarray([0, 1])) is None


@pytest.fixture(scope="module")
def validation(trained):
    """The (images, labels) of toyfaces' validation split."""
    config = read_config(str(trained[0]))
    config.data.cache = "none"
    batches = list(EvalData(config, load_dataset("toyfaces", config.data_dir), "validation").batches())
    mask = np.concatenate([batch["mask"] for batch in batches]) > 0
    return tuple(np.concatenate([batch[name] for batch in batches])[mask] for name in ("image", "label"))


def test_calibrated_bundle_divides_by_the_temperature_and_applies_the_threshold(bundle_path, calibrated, validation):
    (path, found), (images, labels) = calibrated, validation
    before, after = (load(str(each)).probabilities(images) for each in (bundle_path, path))
    expected = special.softmax(np.log(np.float64(before)) / found["temperature"], axis=1)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    losses = [
        log_loss(labels, special.softmax(np.log(np.float64(before)) * factor / found["temperature"], axis=1))
        for factor in (1, 0.9, 1.1, found["temperature"])
    ]
    assert min(losses) == losses[0]
    recognizer = load(str(path))
    unknown = [recognizer.is_unknown(recognizer.rank(row, 1)) for row in after]
    assert np.mean(unknown) == pytest.approx(found["source"]["false_reject_rate"], abs=1e-9)
    assert found["source"]["images"] == len(images) and found["source"]["top1_accuracy"] == np.mean(
        after.argmax(1) == labels
    )
    # Of 192 images, 9 are at most 5 %; the tenth would be too many.
    assert sum(unknown) <= 9 and sum(after.max(1) <= np.nextafter(after.max(1)[~np.asarray(unknown)].min(), 1)) > 9
    others = calibration.impostor_scores(np.log(np.float64(after)), labels)
    assert np.mean(others >= found["threshold"]) == pytest.approx(found["false_accept_rate"], abs=1.5 / len(images))
    assert load(str(bundle_path)).is_unknown([{"probability": 0.0}]) is None


def test_calibrate_sets_the_threshold_from_images_of_unknown_characters(trained, bundle_path, tmp_path, capsys):
    from PIL import Image

    paths = []
    for number in range(8):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(DRAW.integers(0, 256, (32, 32, 3), np.uint8)).save(paths[-1])
    output = tmp_path / "c.msgpack"
    arguments = [f"--bundle={bundle_path}", f"--workdir={trained[0]}", f"--output={output}", f"--unknown={tmp_path}"]
    assert main(["animesion", "calibrate", *arguments, "--false_accept_rate=0.25"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["bundle"] == str(output) and printed["source"]["unknown_images"] == 8
    recognizer = load(str(output))
    unknown = [recognizer.is_unknown(ranked) for ranked in recognizer.predict(paths)]
    assert sum(unknown) == 6
    assert load_bundle(str(output)).calibration.threshold == printed["threshold"]


def test_calibrate_warns_about_a_threshold_of_little_use(trained, bundle_path, tmp_path, capsys, caplog):
    """The model was trained for three epochs."""
    arguments = [f"--bundle={bundle_path}", f"--workdir={trained[0]}", f"--output={tmp_path / 'c.msgpack'}"]
    assert main(["animesion", "calibrate", *arguments]) == 0
    accepted = json.loads(capsys.readouterr().out)["false_accept_rate"]
    assert accepted > 0.5 and f"{100 * accepted:.3g} % of the images of unknown characters are named" in caplog.text
    caplog.clear()
    message = "of known images are rejected; set a higher --false_accept_rate than"
    for rate, expected in ((0.001, True), (0.9, False)):
        assert main(["animesion", "calibrate", *arguments, f"--false_accept_rate={rate}"]) == 0
        rejected = json.loads(capsys.readouterr().out)["source"]["false_reject_rate"]
        assert (rejected > 0.5) is (f"{message} {rate}" in caplog.text) is expected
        assert "are named" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--false_accept_rate=1.5"], ["1.5", "above 0 and below 1"]),
        (["--split=train"], ["--split=train", "training split"]),
        (["--split=toast"], ["toast", "validation"]),
        (["--data_dir=nowhere"], ["nowhere", "not built"]),
        (["--unknown=none.png"], ["--unknown", "none of 1 images"]),
        (["--bundle=zero.msgpack"], ["zero.msgpack", "2 classes"]),
    ],
)
def test_calibrate_refuses_invalid_arguments(trained, bundle_path, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zero.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    command = ["animesion", "calibrate", f"--bundle={bundle_path}", "--output=c.msgpack", f"--workdir={trained[0]}"]
    assert main([*command, *arguments]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not (tmp_path / "c.msgpack").exists()


def test_export_calibrates_if_the_data_is_there_and_says_so_if_not(trained, tmp_path, capsys):
    command = ["animesion", "export", f"--workdir={trained[0]}", f"--output={tmp_path / 'e.msgpack'}"]
    assert main(command) == 0
    assert "calibrated on" in capsys.readouterr().out
    assert load_bundle(str(tmp_path / "e.msgpack")).calibration.source["split"] == "validation"
    assert main([*command, f"--data_dir={tmp_path}"]) == 0
    written = capsys.readouterr().out
    assert "not calibrated" in written and "animesion calibrate" in written
    assert load_bundle(str(tmp_path / "e.msgpack")).calibration is None
