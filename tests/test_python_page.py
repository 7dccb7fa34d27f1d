"""docs/python.md, block by block from top to bottom, on drawn faces with a tiny model."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import animesion_jax
from tests.conftest import ROOT
from tests.detection.onnx_files import draw_blobs, write_blob_detector
from tfds_builders.toyfaces.drawing.characters import CHARACTERS
from tfds_builders.toyfaces.drawing.faces import draw_image

PAGE = ROOT / "docs" / "python.md"
# What makes the page fast: settings, by their text on the page.
SMALLER = {'"resnet18"': '"shallownet"', "64, 8": "16, 4", "64": "16", "config.epochs = 30": "config.epochs = 3"}
# Heads of the scenes, which `write_blob_detector` finds.
BOXES = [[], [(8, 4, 24, 20), (40, 36, 56, 52)]]
NAMES = [character.name for character in CHARACTERS[:3]]


def _blocks() -> list[str]:
    """Returns the page's blocks of Python, with smaller settings."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == text.count("```") // 2, "a block in another language is not run"
    for setting, smaller in SMALLER.items():
        assert any(setting in block for block in blocks), setting
        blocks = [block.replace(setting, smaller) for block in blocks]
    return blocks


def _draw(path: Path, class_id: int, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_image(class_id, index).save(path)


@pytest.fixture
def user_folder(tmp_path, monkeypatch):
    """A current folder, and home, with the files that the page names; a fourth character is the new one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for class_id, name in enumerate(NAMES):
        for index in range(24):  # two per character for validation, which enrolment needs
            _draw(Path("characters", name, f"{index:02d}.png"), class_id, index)
        _draw(Path("pictures", f"{name}.png"), class_id, 100)
    for index in range(5):
        _draw(Path("miku", f"{index}.png"), len(NAMES), index)
        _draw(Path("others", f"{index}.png"), len(NAMES) + 1, index)
    Path("face.png").symlink_to(f"pictures/{NAMES[0]}.png")
    write_blob_detector(Path("heads.onnx"))
    Path("scenes").mkdir()
    for number, boxes in enumerate(BOXES):
        draw_blobs((64, 64), boxes).save(f"scenes/{number}.png")
    return tmp_path


def test_every_block_of_the_page_runs(user_folder, capsys, caplog):
    caplog.set_level("INFO", "animesion_jax")  # restored afterwards; the page sets it too
    variables: dict = {}
    for number, block in enumerate(_blocks()):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), variables)
    printed = capsys.readouterr()
    assert re.match(r"\d+% of 15 test images are named right\n\[\{'class': ", printed.out)
    assert "validation: loss" in caplog.text
    assert [line for line in printed.out.splitlines() if line.startswith("pictures/")] == [
        f"pictures/{name}.png {row['predictions'][0]['class']}"
        for name, row in zip(sorted(NAMES), variables["recognizer"].predict_files(_pictures()), strict=True)
    ]
    lines = [line for line in printed.out.splitlines() if line.startswith("scenes/1.png ")]
    assert sorted(re.findall(r"\[.*\]", "\n".join(lines))) == sorted(str(list(box)) for box in BOXES[1])
    for box in BOXES[1]:
        assert f"\n{box} " in printed.out
    assert {each["class"] for each in variables["ranked"]} <= set(NAMES)
    np.testing.assert_allclose(np.diag(variables["similarities"]), 1, rtol=1e-5)
    assert [each["class"] for (each,) in animesion_jax.load("with_miku.msgpack").predict(["miku/1.png"], 1)] == ["miku"]
    strict = animesion_jax.load("strict.msgpack").bundle.calibration
    assert strict.source["unknown_images"] == 5 and strict.false_accept_rate <= 0.2
    with Image.open("explained.png") as explained:
        assert explained.size == (128, 128)
    assert variables["logits"].shape == (1, 100) and np.isfinite(variables["logits"]).all()
    # The body of the network is the bundle's, the classifier is not.
    trained, given = (each["params"] for each in (variables["recognizer"].bundle.variables, variables["variables"]))
    assert set(trained) == set(given)
    for name in trained:
        assert (name == "head") != all(map(np.array_equal, trained[name].values(), given[name].values()))


def _pictures() -> list[Path]:
    return sorted(Path("pictures").iterdir())
