"""Rows of whole pictures in every format, in resumed files, in copies and in text files."""

import io
import json
from pathlib import Path

import pytest

from animesion_jax.errors import InputError
from animesion_jax.inference.result_file import BOXES, IMAGES, PICTURES, open_result_file
from animesion_jax.inference.sidecars import Sidecars
from animesion_jax.inference.sort_images import copy_into_folders
from animesion_jax.inference.writers import write_pictures_csv, write_table

NAMES = ["yui", "ritsu", "m,io"]


def _face(box, confidence, *ranked, unknown=False):
    predictions = [{"class": NAMES[place], "class_id": place, "probability": share} for place, share in ranked]
    return {"box": box, "confidence": confidence, "unknown": unknown, "predictions": predictions}


def _rows(folder=""):
    """Returns rows with two known heads, one known and one unknown, one unknown, the whole, none, and an error."""
    yui, ritsu = _face([1, 2, 30, 40], 0.75, (0, 0.5), (2, 0.25)), _face([5, 6, 7, 8], 0.5, (1, 0.75), (0, 0.125))
    nobody, whole = _face([0, 0, 9, 9], 0.5, (2, 0.25), (1, 0.125), unknown=True), _face([0, 0, 64, 48], None, (1, 1.0))
    whole["unknown"] = None
    whole["predictions"].append({"class": "yui", "class_id": 0, "probability": 0.0})
    faces = {"two": [yui, ritsu], "mixed": [nobody, yui, yui], "nobody": [nobody], "whole": [whole], "none": []}
    rows = [{"path": f"{folder}{name}.png", "faces": each} for name, each in faces.items()]
    return [*rows[:4], {"path": f"{folder}bad.png", "error": "no image"}, rows[4]]


CSV = """\
path,face,faces,left,top,right,bottom,confidence,rank,class,class_id,probability,unknown,error
two.png,1,2,1,2,30,40,0.75,1,yui,0,0.5,false,
two.png,1,2,1,2,30,40,0.75,2,"m,io",2,0.25,false,
two.png,2,2,5,6,7,8,0.5,1,ritsu,1,0.75,false,
two.png,2,2,5,6,7,8,0.5,2,yui,0,0.125,false,
mixed.png,1,3,0,0,9,9,0.5,1,"m,io",2,0.25,true,
mixed.png,1,3,0,0,9,9,0.5,2,ritsu,1,0.125,true,
mixed.png,2,3,1,2,30,40,0.75,1,yui,0,0.5,false,
mixed.png,2,3,1,2,30,40,0.75,2,"m,io",2,0.25,false,
mixed.png,3,3,1,2,30,40,0.75,1,yui,0,0.5,false,
mixed.png,3,3,1,2,30,40,0.75,2,"m,io",2,0.25,false,
nobody.png,1,1,0,0,9,9,0.5,1,"m,io",2,0.25,true,
nobody.png,1,1,0,0,9,9,0.5,2,ritsu,1,0.125,true,
whole.png,1,1,0,0,64,48,,1,ritsu,1,1.0,,
whole.png,1,1,0,0,64,48,,2,yui,0,0.0,,
bad.png,,,,,,,,,,,,,no image
none.png,,0,,,,,,,,,,,
"""


def test_csv_has_a_row_for_each_head_and_rank():
    stream = io.StringIO(newline="")
    write_pictures_csv(_rows(), stream)
    assert stream.getvalue() == CSV


def test_table_has_a_line_for_each_head():
    stream = io.StringIO()
    write_table(_rows(), stream, [Path(row["path"]) for row in _rows()], NAMES, pictures=True)
    assert stream.getvalue().splitlines() == [
        "file        head  character  probability  next likeliest",
        "two.png        1  yui              50.0%  m,io 25.0%",
        "two.png        2  ritsu            75.0%  yui 12.5%",
        "mixed.png      1  unknown                 m,io 25.0%",
        "mixed.png      2  yui              50.0%  m,io 25.0%",
        "mixed.png      3  yui              50.0%  m,io 25.0%",
        "nobody.png     1  unknown                 m,io 25.0%",
        "whole.png      1  ritsu           100.0%  yui 0.0%",
        "bad.png           error                   no image",
        "none.png          no head",
    ]


def _complete(output, content, rows, ranks=2):
    """Adds the rows of the missing files; returns these files."""
    with open_result_file(str(output), content) as result_file:
        names = () if content is BOXES else NAMES
        missing = result_file.missing([Path(row["path"]) for row in rows], names, 0 if content is BOXES else ranks)
        result_file.write([row for row in rows if Path(row["path"]) in missing])
    return missing


def _boxes(rows):
    return [
        row | ({"faces": [{key: face[key] for key in ("box", "confidence")} for face in row["faces"]]})
        if "faces" in row
        else row
        for row in rows
    ]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [("a.csv", PICTURES, _rows()), ("a.jsonl", PICTURES, _rows()), ("a.jsonl", BOXES, _boxes(_rows()))],
    ids=["csv", "jsonl", "boxes"],
)
def test_completed_file_equals_an_uninterrupted_one_after_a_cut_at_any_byte(tmp_path, name, content, rows):
    output = tmp_path / name
    assert len(_complete(output, content, rows)) == len(rows)
    whole = output.read_bytes()
    if name.endswith(".csv"):
        assert whole.decode() == CSV
    else:
        assert [json.loads(line) for line in whole.splitlines()] == rows
    for length in range(len(whole)):
        output.write_bytes(whole[:length])
        _complete(output, content, rows)
        assert output.read_bytes() == whole, length
    assert _complete(output, content, rows) == []


IMAGE_ROWS = [{"path": "a.png", **_rows()[0]["faces"][0]}]


@pytest.mark.parametrize(
    ("written", "rows", "ranks", "read", "words"),
    [
        (PICTURES, _rows(), 2, IMAGES, "has predictions of whole pictures, not predictions of images; give another"),
        (PICTURES, _rows(), 0, BOXES, "has predictions of whole pictures, not heads; give another file"),
        (IMAGES, IMAGE_ROWS, 2, PICTURES, "has predictions of images, not predictions of whole pictures; give another"),
        (IMAGES, IMAGE_ROWS, 0, BOXES, "has predictions of images, not heads; give another file"),
        (BOXES, _boxes(_rows()), 2, PICTURES, "has heads, not predictions of whole pictures; give another file"),
        (BOXES, _boxes(_rows()), 2, IMAGES, "has heads, not predictions of images; give another file"),
        (BOXES, _boxes(_rows())[-1:], 2, IMAGES, "has heads, not predictions of images; give another file"),
        (PICTURES, _rows(), 1, PICTURES, "2 characters per image, and --top_k asks for 1"),
        (PICTURES, _rows(), 3, PICTURES, "2 characters per image, and --top_k asks for 3"),
    ],
)
def test_file_of_other_rows_is_refused(tmp_path, written, rows, ranks, read, words):
    # Boxes are in JSON lines only.
    for suffix in ("jsonl",) if BOXES in (written, read) else ("csv", "jsonl"):
        output = tmp_path / f"a.{suffix}"
        _complete(output, written, rows)
        before = output.read_bytes()
        with pytest.raises(InputError, match=words if suffix == "jsonl" or written is read else "does not hold"):
            _complete(output, read, [*rows, {"path": "new.png", "faces": []}], ranks)
        assert output.read_bytes() == before


def test_picture_is_copied_to_every_known_character_on_it(tmp_path):
    rows = _rows(f"{tmp_path}/in/")
    (tmp_path / "in").mkdir()
    for row in rows:
        Path(row["path"]).write_text(row["path"], encoding="utf-8")
    assert list(copy_into_folders(rows, str(tmp_path / "out"))) == rows
    copied = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert copied == ["ritsu/two.png", "ritsu/whole.png", "unknown/nobody.png", "yui/mixed.png", "yui/two.png"]


@pytest.mark.parametrize(("form", "start"), [("tags", ""), ("hydrus", "character:")])
def test_text_file_lists_every_known_character_once(tmp_path, form, start):
    rows = _rows(f"{tmp_path}/")
    sidecars = Sidecars([Path(row["path"]) for row in rows], [], form, None, False)
    assert list(sidecars.write(rows)) == rows
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == {
        "two.png.txt": f"{start}yui\n{start}ritsu\n",
        "mixed.png.txt": f"{start}yui\n",
        "whole.png.txt": f"{start}ritsu\n",
    }
