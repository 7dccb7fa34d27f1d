"""`serve --detector` in process: heads on whole pictures."""

import json
import re

import pytest
from PIL import Image

from animesion_jax.main import main
from animesion_jax.serve.temporary import temporary_folder
from tests.conftest import SHARED
from tests.serve.pictures import BOXES, expected_faces, write_crowd, write_detector
from tests.serve.running import compiled_service, running

pytest.importorskip("gradio", reason="the extra [serve] is not installed")
ESCAPED = "&lt;b&gt;ame &amp; &quot;co&quot;&lt;/b&gt;"


@pytest.fixture(scope="module")
def service(knowing, detector):
    return compiled_service(knowing, detector=str(detector))


@pytest.fixture(scope="module")
def client(service):
    with running(service) as (client, _):
        yield client


def _post(client, *paths):
    files = [("image", (path.name, path.read_bytes())) for path in paths]
    return client.post("/api/predict", files=files).json()["results"]


def _close(faces):
    """Returns the faces with probabilities that differ by rounding only; a batch of another size rounds differently."""
    return [
        face
        | {"predictions": [row | {"probability": pytest.approx(row["probability"])} for row in face["predictions"]]}
        for face in faces
    ]


def test_endpoint_answers_with_the_faces_of_predict(client, knowing, detector, scene, tmp_path, capsys):
    Image.new("RGB", (50, 40), "green").save(tmp_path / "nobody.png")
    (tmp_path / "notes.txt").write_text("no image")
    found, nobody, text = _post(client, scene, tmp_path / "nobody.png", tmp_path / "notes.txt")
    assert list(found) == ["name", "faces", "seconds"] and found["name"] == "scene.png"
    assert [tuple(face["box"]) for face in found["faces"]] == list(BOXES)
    main(["animesion", "predict", f"--bundle={knowing}", f"--detector={detector}", "--format=json", str(scene)])
    (predicted,) = json.loads(capsys.readouterr().out)
    assert found["faces"] == _close(predicted["faces"])
    assert sorted(face["unknown"] for face in found["faces"]) == [False, False, True]
    assert nobody["faces"] == [] and "not a readable image" in text["error"] and "faces" not in text
    assert client.get("/api/info").json()["detector"] == "blobs.onnx"


def test_all_heads_of_a_crowd_are_named_without_compiling_and_the_page_has_cards_of_some(
    knowing, tmp_path, monkeypatch
):
    from animesion_jax.serve.cards import render

    detector, crowd = write_detector(tmp_path / "wide.onnx", (128, 320)), write_crowd(tmp_path / "crowd.png", 35)
    service = compiled_service(knowing, detector=str(detector))
    sizes = []
    for recognizer in service._by_batch_size.values():
        forward = recognizer._forward
        monkeypatch.setattr(recognizer, "_forward", lambda x, run=forward: sizes.append(len(x)) or run(x))
    named = service.answer(crowd, 1, "crowd.png")["faces"]
    assert len(named) == 35 and named == _close(expected_faces(knowing, detector, crowd))
    answer, image, maps = service.explain(crowd, 1, "crowd.png")
    assert answer["faces"] == _close(named) and image.size == (320, 128) and len(maps) == 24
    # All 35, and the 11 without a map.
    assert sizes == [8] * 4 + [1] * 3 + [8] + [1] * 3
    assert [each._probabilities._cache_size() for each in service._by_batch_size.values()] == [1, 1]
    written = render(service, [crowd])
    boxes = re.findall(r'<a class="box[^"]*"( href="#head-1-\d+")? title="(\d+): ', written)
    assert [int(number) for _, number in boxes] == list(range(1, 36))
    assert [bool(link) for link, _ in boxes] == [True] * 24 + [False] * 11
    assert re.findall(r'id="head-1-(\d+)"', written) == [str(number) for number in range(1, 25)]
    assert "35 heads" in written and "the first 24 have a card" in written


def test_page_escapes_names_and_says_that_a_picture_has_no_head(service, scene, tmp_path):
    from animesion_jax.serve.cards import render
    from animesion_jax.serve.page import create_page

    Image.new("RGB", (50, 40), "green").save(tmp_path / "<i>x.png")
    written = render(service, [scene, tmp_path / "<i>x.png"])
    assert (
        f">{ESCAPED}<" in written
        and re.search(rf'title="\d: {ESCAPED}, \d', written)
        and "<b>ame" not in written
        and "<i>x" not in written
    )
    assert "3 heads" in written and written.count("No head was found.") == 1 and "have a card" not in written
    # Two pictures, and two images in each card.
    assert written.count('src="data:image/webp') == 2 + 2 * 3
    with temporary_folder():
        texts = [str(block.value) for block in create_page(service).blocks.values() if hasattr(block, "value")]
    assert any("Drop or paste pictures" in text for text in texts) and not any("of faces" in text for text in texts)


def test_detector_that_fails_on_a_picture_is_an_error_of_that_picture(service, scene, monkeypatch):
    from animesion_jax.errors import InputError

    def fail(_):
        raise InputError("blobs.onnx is not a detector")

    monkeypatch.setattr(service.finder, "detector", fail)
    assert service.answer(scene, 1, "scene.png") == {"name": "scene.png", "error": "blobs.onnx is not a detector"}


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--detector=none.onnx", ["no detector at none.onnx"]),
        ("--detector=auto", ["local file blobs.onnx"]),
        ("--min_confidence=0.5", ["--min_confidence=0.5 is for --detector"]),
    ],
)
def test_serve_refuses_invalid_flags_of_a_detector(knowing, argument, words, capsys):
    assert main(["animesion", "serve", f"--bundle={knowing}", "--port=0", argument]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message


@pytest.mark.shared
def test_real_cascade_finds_a_real_face(knowing, tmp_path):
    picture = Image.new("RGB", (400, 300), "white")
    with Image.open(SHARED / "realfaces/moeimouto/moeimouto-faces/000_ame/face_148_88_4.png") as face:
        picture.paste(face.resize((160, 160)), (200, 100))
    picture.save(tmp_path / "picture.png")
    service = compiled_service(knowing, detector=str(SHARED / "detector" / "lbpcascade_animeface.xml"))
    (face,) = service.answer(tmp_path / "picture.png", 1, "picture.png")["faces"]
    assert face["box"] == pytest.approx([200, 100, 360, 260], abs=20)
