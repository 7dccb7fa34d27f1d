"""`find` and `predict` with a real detector on composed pictures of real faces."""

import json

import flax.serialization
import jax
import numpy as np
import pytest
from PIL import Image

import animesion_jax
from animesion_jax.detection import load_detector
from animesion_jax.main import main
from animesion_jax.models import create_model
from benchmarks.scene_pictures import compose
from tests.conftest import SHARED
from tests.hostile_seeds import bundle_tree

pytestmark = pytest.mark.shared
XML = SHARED / "detector" / "lbpcascade_animeface.xml"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of six pictures with 1 to 6 heads."""
    folder = tmp_path_factory.mktemp("scenes")
    crops = np.array(sorted((SHARED / "realfaces" / "holo").glob("*/*.jpg"))[::40])
    for number in range(6):
        random = np.random.default_rng(number)
        scene, _ = compose(random, random.choice(crops, number + 1, replace=False), crops)
        scene.save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of random weights, whose probabilities tell crops apart."""
    tree, model = bundle_tree(), create_model("shallownet", num_classes=2, image_size=16)
    variables = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32), train=False)
    tree["variables"] = jax.tree.map(np.asarray, variables)
    path = tmp_path_factory.mktemp("bundle") / "random.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def _rows(words, output):
    assert main(["animesion", *words, f"--detector={XML}", f"--output={output}"]) == 0
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def test_heads_are_those_of_the_detector_and_named_as_their_crops(scenes, bundle, tmp_path):
    found = _rows(["find", str(scenes)], tmp_path / "boxes.jsonl")
    named = _rows(["predict", f"--bundle={bundle}", "--batch_size=4", str(scenes)], tmp_path / "names.jsonl")
    assert [row["path"] for row in found] == [row["path"] for row in named] == sorted(map(str, scenes.iterdir()))
    detect, recognizer, different = load_detector(str(XML)), animesion_jax.load(str(bundle)), set()
    for boxes, names in zip(found, named, strict=True):
        image = Image.open(boxes["path"])
        expected = [{"box": list(box), "confidence": confidence} for box, confidence in detect(image)]
        assert boxes["faces"] == expected
        assert [{key: face[key] for key in ("box", "confidence")} for face in names["faces"]] == expected
        for face in names["faces"]:
            (alone,) = recognizer.predict(image.crop(face["box"]))
            assert [each["class"] for each in face["predictions"]] == [each["class"] for each in alone]
            probabilities = [[each["probability"] for each in one] for one in (face["predictions"], alone)]
            np.testing.assert_allclose(*probabilities, atol=1e-5)
            different.add(round(face["predictions"][0]["probability"], 3))
    assert len(different) >= 4
