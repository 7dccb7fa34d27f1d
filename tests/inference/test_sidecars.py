"""Text files of tags, beside images or below a folder; existing files are kept."""

import logging
import os
from pathlib import Path

import flax.serialization
import pytest
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.inference.sidecars import Sidecars
from animesion_jax.main import main
from tests.hostile_seeds import CALIBRATION, bundle_tree


def _row(path, character="yui"):
    ranked = [{"class": character or "yui", "class_id": 0, "probability": 1.0}]
    return {"path": str(path), "unknown": character is None, "predictions": ranked}


def _write(rows, given=(), form="tags", folder=None, overwrite=False):
    """Writes the text files of rows; returns the counts."""
    sidecars = Sidecars([Path(row["path"]) for row in rows], [*map(str, given)], form, folder, overwrite)
    assert list(sidecars.write(rows)) == rows
    return dict(sidecars.counts)


def _contents(folder):
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.txt")}


def test_sidecars_have_the_character_and_unknown_images_have_no_sidecar(tmp_path):
    rows = [_row(tmp_path / "face.jpg"), _row(tmp_path / "face.png", "あかり"), _row(tmp_path / "other.png", None)]
    rows += [{"path": str(tmp_path / "broken.png"), "error": "no image"}]
    assert _write(rows) == {"written": 2}
    assert _contents(tmp_path) == {"face.jpg.txt": "yui\n", "face.png.txt": "あかり\n"}
    # A second run has nothing to do.
    before = (tmp_path / "face.jpg.txt").stat()
    assert _write(rows) == {} and os.path.samestat((tmp_path / "face.jpg.txt").stat(), before)


@pytest.mark.parametrize(
    ("name", "tags", "hydrus"),
    [
        ("Re:Zero\u3000Rem", "Re:Zero\u3000Rem\n", "character:Re:Zero\u3000Rem\n"),
        (" a\r\nb\u2028c\x85 ", "a b c\n", "character:a b c\n"),
        ("\n", "", ""),
        ("\udcff", "\\udcff\n", "character:\\udcff\n"),
    ],
)
def test_sidecars_have_one_line_for_any_name(tmp_path, name, tags, hydrus):
    for form, expected in (("tags", tags), ("hydrus", hydrus)):
        _write([_row(tmp_path / "face.jpg", name)], form=form, overwrite=True)
        file = tmp_path / "face.jpg.txt"
        assert (file.read_bytes().decode() if file.exists() else "") == expected
        file.unlink(missing_ok=True)


def test_sidecars_replace_other_content_only_with_overwrite(tmp_path):
    rows = [_row(tmp_path / "mine.jpg"), _row(tmp_path / "stranger.jpg", None), _row(tmp_path / "folder.jpg")]
    captions = {"mine.jpg.txt": "my own caption", "stranger.jpg.txt": "mio\n"}
    for name, text in captions.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.jpg.txt").mkdir()
    assert _write(rows) == {"kept": 3}
    assert [(tmp_path / name).read_text() for name in captions] == [*captions.values()]
    assert _write(rows, overwrite=True) == {"written": 1, "emptied": 1, "kept": 1}
    assert [(tmp_path / name).read_text() for name in captions] == ["yui\n", ""]
    assert sorted(os.listdir(tmp_path)) == ["folder.jpg.txt", *captions]


def test_sidecars_keep_a_file_that_another_process_writes_at_the_same_time(tmp_path, monkeypatch):
    (tmp_path / "face.jpg.txt").write_text("caption")
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    assert _write([_row(tmp_path / "face.jpg")]) == {"kept": 1}
    assert (tmp_path / "face.jpg.txt").read_text() == "caption"


def test_sidecars_below_a_folder_keep_the_images_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = [
        _row("in/a/face.jpg"),
        _row("in/b/face.jpg", "mio"),
        _row(tmp_path / "elsewhere" / "x.jpg"),
        _row("../y.jpg"),
    ]
    assert _write(rows, ["in", "else/x.jpg", "../y.jpg"], folder="~/out") == {"written": 4}
    assert _contents(tmp_path / "out") == {
        "a/face.jpg.txt": "yui\n", "b/face.jpg.txt": "mio\n", "x.jpg.txt": "yui\n", "y.jpg.txt": "yui\n"
    }  # fmt: skip
    assert _write([_row("a/x.png"), _row(tmp_path / "a" / "x.png")], ["a"], folder="twice") == {"written": 1}
    with pytest.raises(InputError, match=r"in/b/face.jpg have the same text file out/face\.jpg\.txt; allowed"):
        _write(rows[:2], ["in/a", "in/b"], folder="out")


def test_sidecar_with_a_too_long_name_is_an_error_row(tmp_path):
    fitting, longest = tmp_path / f"{'あ' * 82}.png", tmp_path / f"{'あ' * 83}.png"
    rows = [_row(longest), _row(fitting)]
    written = list(Sidecars([longest, fitting], [], "tags", None, False).write(rows))
    assert "File name too long" in written[0]["error"] and written[1] == rows[1]
    assert _contents(tmp_path) == {f"{fitting.name}.txt": "yui\n"}


def test_sidecars_in_a_read_only_folder_name_the_flag(tmp_path, monkeypatch):
    def refuse(self, content):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match=r"cannot be written to: Permission denied; .*--sidecar_to=FOLDER"):
        _write([_row(tmp_path / "face.jpg")])


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    """Returns a function that runs predict with a bundle that names every image yui."""
    bundle = tmp_path_factory.mktemp("bundle") / "b.msgpack"
    tree = bundle_tree() | {"calibration": CALIBRATION | {"threshold": 0.4}}
    bundle.write_bytes(flax.serialization.msgpack_serialize(tree))
    return lambda *arguments: main(["animesion", "predict", f"--bundle={bundle}", "--batch_size=1", *arguments])


def test_predict_writes_sidecars_and_reports_those_that_it_kept(predict, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    for name in ("faces/a.png", "faces/b.png", "hydrus/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20)).save(name)
    Path("faces/b.png.txt").write_text("caption")
    # The path after --sidecar is an image, unless it is the name of a format.
    assert predict("--sidecar", "faces", "--output=names.csv") == 0
    assert _contents(tmp_path) == {"faces/a.png.txt": "yui\n", "faces/b.png.txt": "caption"}
    expected = "text files: 1 written, 1 existing ones with other content kept; --overwrite replaces them"
    assert expected in caplog.text
    assert predict("--sidecar", "hydrus", "--overwrite", "--sidecar_to=out", "faces", "hydrus") == 0
    assert _contents(tmp_path / "out") == dict.fromkeys(["a.png.txt", "b.png.txt", "c.png.txt"], "character:yui\n")
    assert predict("--sidecar=tags", "--overwrite", "--copy_to=sorted", "--", "faces") == 0
    assert _contents(tmp_path / "faces") == {"a.png.txt": "yui\n", "b.png.txt": "yui\n"}
    assert sorted(path.name for path in Path("sorted/yui").iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sidecar_to=out"], "--sidecar_to=out is for --sidecar; give both"),
        (["--overwrite"], "--overwrite is for --sidecar; give both"),
        (["--sidecar=booru"], "invalid choice: 'booru'"),
    ],
)
def test_predict_refuses_incomplete_flags_of_sidecars(predict, tmp_path, capsys, flags, words):
    assert predict(*flags, str(tmp_path)) == 2
    assert words in capsys.readouterr().err
