"""Embeddings and enrolled characters against NumPy in float64."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import special

from animesion_jax.bundle import extend_bundle, load_bundle, updating
from animesion_jax.images import to_image
from animesion_jax.inference import heads
from animesion_jax.inference.explain import Explainer
from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from tests.hostile_seeds import CROPS
from tests.known_boxes import KnownBoxes

DRAW = np.random.default_rng(11)


@pytest.fixture(scope="module")
def bundle(calibrated):
    """The path of a calibrated bundle of ShallowNet on toyfaces."""
    return str(calibrated[0])


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """A folder of 6 images unlike any toy face: black and white stripes with noise."""
    folder = tmp_path_factory.mktemp("stripes")
    lines = np.where(np.arange(32)[:, None, None] // 4 % 2, 255, 0) * np.ones((32, 32, 3))
    for number in range(6):
        noisy = np.clip(lines + DRAW.normal(0, 20, (32, 32, 3)), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def _enroll(bundle, output, *arguments, name="Stripes"):
    return main(
        ["animesion", "enroll", f"--bundle={bundle}", f"--name={name}", f"--output={output}", *map(str, arguments)]
    )


def test_embeddings_are_the_classifiers_input_at_unit_norm(bundle, stripes):
    images = np.stack([np.asarray(to_image(path)) for path in sorted(stripes.iterdir())])
    recognizer = load(bundle)
    embeddings, head = np.float64(recognizer.embeddings(images)), recognizer.bundle.variables["params"]["head"]
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    # Logits without bias are the embedding times the kernel, up to a factor for each image.
    raw = recognizer.bundle.model.apply(recognizer.bundle.variables, (images / np.float32(255) - 0.5) / 0.5)
    logits, products = raw - head["bias"], embeddings @ head["kernel"]
    norms = np.linalg.norm(logits, axis=1) * np.linalg.norm(products, axis=1)
    np.testing.assert_allclose((logits * products).sum(1) / norms, 1, atol=1e-4)


def test_embed_writes_the_embeddings_of_the_recognizer(bundle, stripes, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "broken.png").write_text("no image")
    for name in ("e.npz", "e.parquet"):
        command = ["animesion", "embed", f"--bundle={bundle}", f"--output={tmp_path / name}", "--batch_size=4"]
        assert main([*command, str(stripes)]) == 0
        assert main([*command, str(stripes), str(tmp_path / "broken.png")]) == 1
        assert "6 embeddings of 512 numbers" in capsys.readouterr().out
    npz, table = np.load(tmp_path / "e.npz"), pyarrow.read_table(tmp_path / "e.parquet")
    files = sorted(map(str, stripes.iterdir()))
    assert npz["path"].tolist() == table["path"].to_pylist() == files
    expected = load(bundle).embeddings(np.stack([np.asarray(Image.open(file)) for file in files]))
    np.testing.assert_allclose(npz["embedding"], expected, atol=1e-6)
    np.testing.assert_allclose(np.stack(table["embedding"].to_pylist()), expected, atol=1e-6)


def test_enroll_adds_one_logit_and_keeps_the_others(bundle, stripes, tmp_path, capsys):
    files = sorted(stripes.iterdir())
    output = str(tmp_path / "with_stripes.msgpack")
    assert _enroll(bundle, output, *files[:3]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "bundle": output, "name": "Stripes", "images": 3, "replaced": False, "enrolled": 1
    }  # fmt: skip
    images = np.stack([np.asarray(Image.open(file)) for file in files])
    before, after = load(bundle), load(output)
    embeddings, probabilities = np.float64(before.embeddings(images)), np.float64(before.probabilities(images))
    mean = embeddings[:3].sum(0)
    similarities = embeddings @ (mean / np.linalg.norm(mean))
    calibration = before.bundle.calibration
    # The enrolled logit has no free constant, so take the classes' logits from the model.
    raw = before.bundle.model.apply(before.bundle.variables, (images / np.float32(255) - 0.5) / 0.5)
    logits = np.c_[np.float64(raw) / calibration.temperature, calibration.scale * similarities + calibration.offset]
    np.testing.assert_allclose(after.probabilities(images), special.softmax(logits, axis=1), atol=1e-5)
    np.testing.assert_allclose(probabilities, special.softmax(logits[:, :-1], axis=1), atol=1e-5)
    assert after.bundle.names[20] == "Stripes"


def test_predict_and_explain_name_an_enrolled_character(bundle, stripes, tmp_path, capsys):
    """A large offset gives the enrolled name even to images without a face."""
    files, path = sorted(stripes.iterdir()), str(tmp_path / "b.msgpack")
    calibration = dataclasses.asdict(load_bundle(bundle).calibration) | {"offset": 100.0}
    extend_bundle(bundle, path, calibration=calibration)
    _enroll(path, path, *files[:3])
    capsys.readouterr()
    assert main(["animesion", "predict", f"--bundle={path}", "--format=jsonl", "--top_k=30", *map(str, files)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["predictions"][0] for row in rows] == [
        {"class": "Stripes", "class_id": 20, "probability": pytest.approx(1, abs=1e-6)}
    ] * 6
    assert all(len(row["predictions"]) == 21 and not row["unknown"] for row in rows)
    # `explain` returns the same probability, and a map of the enrolled character.
    command = ["animesion", "explain", f"--bundle={path}", f"--output={tmp_path}", "--class_name=Stripes"]
    assert main([*command, str(files[5])]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["class"], row["probability"]) == ("Stripes", pytest.approx(1, abs=1e-6))
    image = np.asarray(Image.open(files[5]))
    explainer, recognizer = Explainer(load_bundle(path)), load(path)
    probabilities, heat = explainer.explain(image, 20)
    np.testing.assert_allclose(probabilities, recognizer.probabilities(image[None])[0], atol=1e-6)
    assert heat.max() == pytest.approx(1) and not np.allclose(heat, explainer.explain(image, 3)[1], atol=0.1)


def test_enroll_adds_characters_and_replaces_them_by_name(bundle, stripes, tmp_path, capsys):
    files, path = sorted(stripes.iterdir()), str(tmp_path / "b.msgpack")
    _enroll(bundle, path, files[0], name="A")
    _enroll(path, path, files[1], name="あ")
    _enroll(path, path, files[2], files[3], name="A")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["replaced"]
    enrolled = load_bundle(path).enrolled
    assert (enrolled.names, enrolled.counts) == (("A", "あ"), (2, 1))
    expected = load(bundle).embeddings(np.stack([np.asarray(Image.open(file)) for file in files[1:4]]))
    np.testing.assert_allclose(enrolled.embeddings[1], expected[0], atol=1e-6)
    mean = expected[1] + expected[2]
    np.testing.assert_allclose(enrolled.embeddings[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_commands_that_replace_a_bundle_refuse_to_run_at_once(bundle, stripes, tmp_path, capsys):
    """Otherwise one of the two changes would be lost."""
    path, link = str(tmp_path / "b.msgpack"), str(tmp_path / "link.msgpack")
    shutil.copy(bundle, path)
    os.symlink(path, link)
    with updating(path, path):
        for arguments in (
            ["enroll", f"--bundle={path}", "--name=A", f"--output={link}", str(stripes)],
            ["calibrate", f"--bundle={path}", "--workdir=absent"],
        ):
            assert main(["animesion", *arguments]) == 2
            assert f"another command is changing {path}; wait until it ends" in capsys.readouterr().err
        with updating(path, str(tmp_path / "copy.msgpack")):  # only reads this bundle
            pass
    assert _enroll(path, path, stripes, name="A") == _enroll(path, path, stripes, name="B") == 0
    assert load_bundle(path).enrolled.names == ("A", "B")


def test_enroll_refuses_invalid_input(bundle, bundle_path, stripes, tmp_path, capsys):
    known = load_bundle(bundle).classes[0]
    (tmp_path / "broken.png").write_text("no image")
    output = tmp_path / "out.msgpack"
    for source, name, image, words in [
        (bundle_path, "A", stripes, ["no calibration", "animesion calibrate"]),
        (bundle, known, stripes, [f"--name={known}", "not trained on"]),
        (bundle, " ", stripes, ["--name= ", "a character"]),
        (bundle, "Unknown", stripes, ["--name=Unknown", "not 'unknown'"]),
        (bundle, "a\nb", stripes, ["--name=a\\nb", "one line of text"]),
        (bundle, "\udce6", stripes, ["--name=\\udce6", "in the encoding of this locale"]),
        (bundle, "A", tmp_path / "broken.png", ["broken.png", "leave it out"]),
        (bundle, "A", tmp_path / "absent.png", ["absent.png"]),
    ]:
        assert _enroll(source, output, image, name=name) == 2
        message = capsys.readouterr().err.strip()
        assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not output.exists()


@pytest.fixture
def pictures(bundle, stripes, tmp_path, monkeypatch):
    """A detector, and a folder of pictures with 1, 2, 0 and 1 heads, each of which is one of the stripes."""
    detector, folder = KnownBoxes(), tmp_path / "pictures"
    monkeypatch.setattr(heads, "load_detector", detector.load)
    faces = [Image.open(file).convert("RGB") for file in sorted(stripes.iterdir())]
    for number, shown in enumerate(([0], [1, 2], [], [3])):
        picture, boxes = Image.new("RGB", (200, 100), "white"), []
        for place, face in enumerate(shown):
            left = 20 + 90 * place
            picture.paste(faces[face], (left, 40))
            boxes.append((left, 40, left + 32, 72))
        detector.write(folder / f"{number}.png", picture, boxes)
    return detector, folder


def test_embed_with_a_detector_writes_a_row_for_each_head(bundle, stripes, pictures, tmp_path, capsys, caplog):
    pyarrow, (detector, folder) = pytest.importorskip("pyarrow.parquet"), pictures
    (tmp_path / "broken.png").write_text("no image")
    command = ["animesion", "embed", f"--bundle={bundle}", "--detector=boxes.onnx", "--min_confidence=0.2"]
    for name in ("e.npz", "e.parquet"):
        assert main([*command, f"--output={tmp_path / name}", str(folder)]) == 0
        assert "4 embeddings of 512 numbers" in capsys.readouterr().out
        assert main([*command, f"--output={tmp_path / name}", str(folder), str(tmp_path / "broken.png")]) == 1
    assert detector.loaded == ("boxes.onnx", 0.2) and "no head was found on 1 of 4 pictures" in caplog.text
    npz, table = np.load(tmp_path / "e.npz"), pyarrow.read_table(tmp_path / "e.parquet")
    assert list(npz) == table.column_names == ["path", "box", "confidence", "embedding"]
    assert npz["path"].tolist() == table["path"].to_pylist() == [str(folder / f"{i}.png") for i in (0, 1, 1, 3)]
    left = np.array([20, 20, 110, 20])
    assert npz["box"].dtype == np.int32 and npz["box"].tolist() == table["box"].to_pylist()
    np.testing.assert_array_equal(npz["box"], np.c_[left, [40] * 4, left + 32, [72] * 4])
    assert npz["confidence"].tolist() == table["confidence"].to_pylist() == [0.875, 0.875, 0.75, 0.875]
    images = np.stack([np.asarray(Image.open(file)) for file in sorted(stripes.iterdir())[:4]])
    np.testing.assert_allclose(npz["embedding"], load(bundle).embeddings(images), atol=1e-6)
    np.testing.assert_allclose(np.stack(table["embedding"].to_pylist()), npz["embedding"])
    assert main([*command, f"--output={tmp_path / 'e.npz'}", str(folder / "2.png")]) == 0
    empty = np.load(tmp_path / "e.npz")
    assert [empty[name].shape for name in empty] == [(0,), (0, 4), (0,), (0, 512)]


def test_enroll_with_a_detector_takes_the_one_head_of_each_picture(bundle, stripes, pictures, tmp_path, capsys):
    files, (detector, folder) = sorted(stripes.iterdir()), pictures
    _enroll(bundle, tmp_path / "faces.msgpack", files[0], files[3])
    flags = "--detector=boxes.onnx", "--min_confidence=0.2"
    assert _enroll(bundle, tmp_path / "heads.msgpack", *flags, folder / "0.png", folder / "3.png") == 0
    expected, found = (load_bundle(str(tmp_path / f"{name}.msgpack")).enrolled for name in ("faces", "heads"))
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-6)
    assert (found.names, found.counts) == (("Stripes",), (2,)) and detector.loaded == ("boxes.onnx", 0.2)
    capsys.readouterr()
    for number, heads_found in (("1", "2 heads"), ("2", "no heads")):
        assert _enroll(bundle, tmp_path / "x.msgpack", *flags, folder / "0.png", folder / f"{number}.png") == 2
        message = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{number}.png has {heads_found}; allowed: exactly one; leave it out" in message
    assert not (tmp_path / "x.msgpack").exists()


def test_enroll_keeps_the_margin_of_the_bundle(bundle, stripes, tmp_path):
    path = str(tmp_path / "b.msgpack")
    extend_bundle(bundle, path, crops=CROPS)
    assert _enroll(path, path, stripes) == 0
    assert load_bundle(path).crops.to_tree() == CROPS
