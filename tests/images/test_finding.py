"""Every command that takes images, and training, find the same images in files and folders."""

import errno
import os
from collections import Counter
from typing import Any

import pytest

from animesion_jax.errors import InputError
from animesion_jax.images import describe, find_images, formats, is_system_name
from animesion_jax.images.finding import MAX_KINDS, SYSTEM_NAMES
from tfds_builders.folder.layout import read_layout

# What systems, servers and programs put beside images, below a character's folder.
SYSTEM_FILES = (
    "._a.png", ".ipynb_checkpoints/a-checkpoint.png", ".Trash-1000/files/b.png", ".@__thumb/a.png",
    "@eaDir/a.png/SYNOPHOTO_THUMB_XL.jpg", "@EADIR/b.jpg", "@Recycle/c.png", "@Recently-Snapshot/c.png",
    "#recycle/c.png", "#snapshot/c.png", "__MACOSX/._a.png", "__MACOSX/a.png", "$RECYCLE.BIN/S-1-5/$R1.png",
    "System Volume Information/x.png", "lost+found/#1.png", "Thumbs.db", "desktop.ini", "Icon\r", ".DS_Store",
)  # fmt: skip


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _refused(paths, *words):
    with pytest.raises(InputError) as caught:
        find_images(paths)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message


def test_system_files_are_left_out_by_every_command_and_counted(tmp_path, caplog):
    """By predict, enroll and so on, and by training, with splits and without."""
    for split in ("train", "test"):
        _touch(tmp_path / split / "yui", "a.png", "deep/b.png", *SYSTEM_FILES)
        _touch(tmp_path / split, "__MACOSX/yui/c.png", "@eaDir/yui/c.png", ".hidden/c.png")
    _touch(tmp_path, "__MACOSX/train/yui/._a.png", "lost+found/x.png", "._train")
    layout = read_layout(tmp_path)
    assert [image.name for image in layout.images] == [
        f"{split}/yui/{name}" for split in ("test", "train") for name in ("a.png", "deep/b.png")
    ]
    assert layout.has_splits and layout.characters == ["yui"]
    folders_and_files = len(SYSTEM_FILES) - 1  # two of the files are in one folder
    assert layout.left_out == {"hidden or system": 2 * (folders_and_files + 3) + 3}
    with caplog.at_level("INFO", "animesion_jax"):
        assert find_images([str(tmp_path)]) == [image.path for image in layout.images]
    assert caplog.messages == [f"left out in folders: {describe(layout.left_out)}"]


def test_named_files_and_folders_are_taken_whatever_their_names(tmp_path):
    _touch(tmp_path, "._a.png", "@eaDir/a.png", "x.explained.png", "no_ending")
    named = [tmp_path / name for name in ("._a.png", "x.explained.png", "no_ending")]
    assert find_images([*map(str, named), str(tmp_path / "@eaDir")]) == [*named, tmp_path / "@eaDir" / "a.png"]


@pytest.mark.parametrize("name", ["@artist", "#1", "macosx", "lost", "~yui", "recycle", "a.thumbs.db.png", "$x.png"])
def test_ordinary_names_are_not_system_names(name):
    assert not is_system_name(name)


def test_system_names_are_compared_in_lower_case():
    assert {name.lower() for name in SYSTEM_NAMES} == SYSTEM_NAMES
    assert is_system_name("THUMBS.DB") and is_system_name("@eaDir")


def test_one_line_counts_what_is_left_out_in_all_folders(tmp_path, caplog):
    _touch(tmp_path / "a", "1.png", "2.jxl", "3.JXL", "README", "Vol. 3 (final)", "x.png.explained.png", ".hidden")
    _touch(tmp_path / "b", "1.png", "2.jxl", "deep/Thumbs.db", "1.txt", "1.txt~")
    (tmp_path / "b" / "linked").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "linked.png").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "2.png").symlink_to(tmp_path / "a" / "1.png")
    os.mkfifo(tmp_path / "b" / "pipe.png")
    with caplog.at_level("INFO", "animesion_jax"):
        found = find_images([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "b" / "1.txt")])
    assert [path.name for path in found] == ["1.png", "1.png", "2.png", "1.txt"]
    assert caplog.messages == [
        "left out in folders: .jxl 3, without an ending 3, hidden or system 2, linked folders 2, .txt 1, "
        "overlays of explain 1, pipes, sockets and devices 1"
    ]
    caplog.clear()
    find_images([str(tmp_path / "a" / "1.png")])
    assert not caplog.messages


def test_many_kinds_fit_on_one_line():
    text = describe(Counter({f".{number}": 100 - number for number in range(50)}))
    assert text.startswith(".0 100, .1 99, ") and text.endswith(f", {50 - MAX_KINDS} other kinds 2641")


def test_folder_without_images_names_what_it_holds(tmp_path):
    _touch(tmp_path, "a.jxl", "b.jxl", ".c.png")
    _refused([str(tmp_path)], "has no images (left out: .jxl 2, hidden or system 1); allowed: files or folders of AVIF")


def test_find_images_takes_the_allowed_formats_in_folders(tmp_path):
    names = ["a.JPG", "b c.png", "d'\"é.webp", "e.gif", "g.avif", "sub/h.jpeg", "あ\u3000.bmp", "line\nend.tif"]
    for name in [*names, "x.eps", "x.pdf", "x.fits", "x.txt", "x"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images([str(tmp_path)]) == sorted(tmp_path / name for name in names)
    (tmp_path / "none").mkdir()
    _refused([str(tmp_path / "none")], "has no images", *formats())
    _refused(["~nobody-of-this-name/x.png"], "~nobody", "home folder", "write ./~nobody")
    for odd in ("a" * 5000, "\0", ""):
        assert len(find_images([odd])) == 1  # read_image reports the fault


def test_find_images_warns_about_unreadable_folders(tmp_path, monkeypatch, caplog):
    _touch(tmp_path, "x.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    # read_image reports the broken link.
    assert find_images([str(tmp_path)]) == [tmp_path / "gone.png", tmp_path / "x.png"]
    assert f"{tmp_path / 'closed'} is left out: Permission denied" in caplog.text
