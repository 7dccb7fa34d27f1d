"""`benchmarks/scenes.py`: labels are where the heads are, and matching is right on cases by hand."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import scene_pictures, scenes
from benchmarks.scene_pictures import BACKGROUNDS, Label, compose

COLOURS = {"ai": (255, 0, 1), "bo": (1, 255, 0), "chi": (0, 1, 255), "do": (255, 254, 0), "ema": (0, 255, 254)}


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Crops of one colour for each character, and one of noise for the backgrounds."""
    folder = tmp_path_factory.mktemp("crops")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        Image.new("RGB", (128, 128), colour).save(folder / name / f"picture_{name}_0.png")
    noise = np.random.default_rng(0).integers(60, 200, (128, 128, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


def _compose(crops, seed, count=5):
    files = [crops / name / f"picture_{name}_0.png" for name in list(COLOURS)[:count]]
    return compose(np.random.default_rng(seed), files, [crops / "noise.png"])


def test_labels_are_where_the_heads_are(crops, monkeypatch):
    """The crops have a colour each, so that pixels show which head they belong to."""
    monkeypatch.setattr(scene_pictures, "BACKGROUNDS", (lambda random, size, _: Image.new("RGB", size, "gray"),))
    monkeypatch.setattr(scene_pictures, "_colour", lambda random: (0, 0, 0))
    covered = []
    for seed in range(12):
        scene, labels = _compose(crops, seed)
        pixels = np.asarray(scene)
        assert [label.character for label in labels] == list(COLOURS)
        for label in labels:
            left, top, right, bottom = label.box
            assert right - left == bottom - top == label.side and 64 <= label.side <= 256
            assert left >= 0 and top >= 0 and right <= scene.width and bottom <= scene.height
            mine = np.abs(pixels.astype(int) - COLOURS[label.character]).max(-1) < 100
            inside = mine[top:bottom, left:right]
            assert 1 - inside.mean() == pytest.approx(label.covered, abs=0.1)
            rows, columns = np.nonzero(mine)
            assert max(np.ptp(rows), np.ptp(columns)) <= 1.6 * label.side
            if label.covered == 0:
                centre = np.array([columns.mean(), rows.mean()]) + 0.5
                np.testing.assert_allclose(centre, [(left + right) / 2, (top + bottom) / 2], atol=0.1 * label.side)
            covered.append(label.covered)
    assert 0.1 < np.mean(np.array(covered) > 0.05) < 0.6 and max(covered) < 0.5


def test_turned_heads_are_turned_counterclockwise(crops, tmp_path):
    """The right half of the crop is red: its centre moves up by sin(degrees)."""
    pixels = np.full((128, 128, 3), (0, 1, 255), np.uint8)
    pixels[:, 64:] = (255, 0, 1)
    (tmp_path / "x").mkdir()
    Image.fromarray(pixels).save(tmp_path / "x" / "picture_x_.png")
    for seed in range(8):
        scene, (label,) = compose(np.random.default_rng(seed), [tmp_path / "x/picture_x_.png"], [crops / "noise.png"])
        left, top, right, bottom = label.box
        inner = np.asarray(scene)[top:bottom, left:right].astype(int)
        across = inner[label.side // 4 : -label.side // 4, :, 0] - inner[label.side // 4 : -label.side // 4, :, 2]
        rows, columns = np.nonzero(np.abs(across) < 120)  # the border between the colours
        slope = np.polyfit(rows, columns, 1)[0] if len(rows) > 5 else 0
        if label.covered == 0:
            # Counterclockwise, a vertical line leans to the left at its top: columns grow with rows.
            assert math.degrees(math.atan(slope)) == pytest.approx(label.degrees, abs=4)


def test_scenes_are_reproducible_and_differ(crops):
    one, other, different = _compose(crops, 3), _compose(crops, 3), _compose(crops, 4)
    assert one == other and one[1] != different[1]
    kinds = {background.__name__ for background in BACKGROUNDS}
    assert len(kinds) == 5


def _face(box, name="ai", unknown=False):
    return {"box": list(box), "confidence": 0.5, "unknown": unknown, "predictions": [{"class": name}]}


def _label(box, name="ai", source="picture"):
    return Label(box, name, source, box[2] - box[0], 0.0, 0.0)


def test_each_box_hits_one_head_and_each_head_has_one_hit():
    labels = [_label((0, 0, 100, 100)), _label((60, 0, 160, 100), "bo"), _label((300, 300, 400, 400), "chi")]
    faces = [
        _face((5, 0, 105, 100), "bo"),  # overlaps the first by 95/105 and the second by 45/155
        _face((50, 0, 150, 100), "bo", True),  # the second by 90/110, the first by 50/150
        _face((0, 10, 100, 110)),  # the first again, by less
        _face((300, 300, 340, 340)),  # a corner of the third: 0.16
    ]
    results, false = scenes.match(labels, faces)
    assert [tuple(each[1:]) for each in results] == [
        (3, True, False, False), (3, True, True, True), (3, False, False, False)
    ]  # fmt: skip
    assert false == [faces[2], faces[3]]
    results, false = scenes.match(labels, [_face((30, 0, 130, 100))])  # both of the first two by 70/130
    assert sum(each.found for each in results) == 1 and false == []
    assert scenes.match(labels[:1], []) == ([scenes.Result(labels[0], 1, False, False, False)], [])


def test_overlap_is_intersection_over_union():
    assert scenes.overlap((0, 0, 10, 10), (5, 0, 15, 20)) == 50 / 250
    assert scenes.overlap((0, 0, 10, 10), (10, 0, 20, 10)) == scenes.overlap((0, 0, 5, 5), (9, 9, 11, 11)) == 0


def test_standard_errors_take_crops_of_one_picture_as_one_draw():
    hits = [True, True, False, True] * 100
    apart = math.sqrt(0.75 * 0.25 / 400)
    assert scenes.percent(hits, map(str, range(400))) == f"75.0 ± {100 * apart:.1f}"
    together = [str(number) for number in range(400) for _ in range(4)]
    assert scenes.percent(np.repeat(hits, 4), together) == f"75.0 ± {100 * apart:.1f}"
    assert scenes.percent([], []) == "—"


def test_split_keeps_the_crops_of_a_picture_together(tmp_path):
    names = [f"{picture:010d}_{number}.jpg" for picture in range(200) for number in range(2)]
    for place, name in enumerate(names):
        path = tmp_path / "holo" / "ab"[place % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    scenes.split(argparse.Namespace(folder=tmp_path / "holo", output=tmp_path / "faces"))
    parts: dict[str, set[str]] = {}
    for path in (tmp_path / "faces").glob("*/*/*.jpg"):
        assert path.read_bytes() and path.parent.name == path.resolve().parent.name
        parts.setdefault(path.name[:10], set()).add(path.parent.parent.name)
    assert len(parts) == 200 and all(len(each) == 1 for each in parts.values())
    counts = {name: sum(part == {name} for part in parts.values()) for name in ("train", "validation", "test")}
    assert counts["train"] > 120 and counts["test"] > counts["validation"] > 5


def test_compose_writes_as_many_scenes_of_each_number_of_heads(crops, tmp_path):
    flags = argparse.Namespace(crops=crops, textures=crops, scenes=4, heads=2, output=tmp_path / "scenes")
    scenes.write_scenes(flags)
    rows = [json.loads(line) for line in (tmp_path / "scenes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [len(row["heads"]) for row in rows] == [1, 2, 1, 2]
    assert sorted(row["path"] for row in rows) == sorted(path.name for path in (tmp_path / "scenes").iterdir())
    written = {path.name: path.read_bytes() for path in (tmp_path / "scenes").iterdir()}
    scenes.write_scenes(flags)
    assert {path.name: path.read_bytes() for path in (tmp_path / "scenes").iterdir()} == written
    scenes.write_scenes(argparse.Namespace(**vars(flags) | {"heads": 1, "output": tmp_path / "single"}))
    for path in (tmp_path / "single").glob("*/*.jpg"):
        row = json.loads((tmp_path / "single.jsonl").read_text(encoding="utf-8").splitlines()[int(path.stem)])
        assert Path(row["path"]).parent.name == path.parent.name == Label(*row["heads"][0]).character
