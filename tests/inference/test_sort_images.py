"""Copies in a folder per character: names, collisions, and several processes at once."""

import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from animesion_jax.errors import InputError
from animesion_jax.inference.sort_images import UNKNOWN, copy_into_folders, copy_once, folder_name


def _row(path, character="yui"):
    return {"path": str(path), "unknown": False, "predictions": [{"class": character, "probability": 1.0}]}


def _write(folder, name, content=b"one"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def test_copy_once_keeps_different_images_of_one_name(tmp_path):
    for number, content in enumerate((b"one", b"two", b"one", b"three")):
        copy_once(_write(tmp_path / str(number), "face.png", content), tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        "face.png": b"one",
        "face (2).png": b"two",
        "face (3).png": b"three",
    }


@pytest.mark.parametrize("second", [b"two", b"one"])
def test_copy_once_loses_no_image_of_two_processes(tmp_path, monkeypatch, second):
    images = [_write(tmp_path / "a", "face.png"), _write(tmp_path / "b", "face.png", second)]
    copy, both, copied = shutil.copy2, threading.Barrier(2), set()

    def copy_both_before_one_is_named(source, target):
        copy(source, target)
        if source not in copied:
            copied.add(source)
            both.wait(30)

    monkeypatch.setattr(shutil, "copy2", copy_both_before_one_is_named)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(copy_once, images, [tmp_path / "out"] * 2))
    assert sorted(file.read_bytes() for file in (tmp_path / "out").iterdir()) == sorted({b"one", second})


def test_copy_once_works_without_hard_links(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "not on this file system")

    monkeypatch.setattr(os, "link", link)
    for number, content in enumerate((b"one", b"two", b"one")):
        copy_once(_write(tmp_path / str(number), "face.png", content), tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["face (2).png", "face.png"]


def test_copy_with_a_too_long_name_is_an_error_row(tmp_path):
    """83 kana take 249 bytes."""
    names = [f"{'あ' * 83}.png", f"{'x' * 251}.png", f"{'é' * 123}.png", "short.png"]
    files = [_write(tmp_path / folder, name, folder.encode()) for folder in ("a", "b") for name in names]
    given = [*map(_row, files), _row(files[3], "あ" * 86), _row(files[3])]
    rows = list(copy_into_folders(given, str(tmp_path / "out")))
    # "NAME (2).png" of the first two names is longer than 255 bytes, and so is a folder of 86 kana.
    assert [number for number, row in enumerate(rows) if "error" in row] == [4, 5, 8]
    assert all("File name too long; shorten or change the name" in row["error"] for row in rows if "error" in row)
    copies = {file.name: file.read_bytes() for file in (tmp_path / "out" / "yui").iterdir()}
    assert copies == dict.fromkeys(names, b"a") | {f"{'é' * 123} (2).png": b"b", "short (2).png": b"b"}


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EROFS, "out/yui cannot be written to: .*--copy_to=FOLDER"), (errno.ENOSPC, "No space")]
)
def test_copies_stop_if_the_folder_is_not_writable_or_full(tmp_path, monkeypatch, number, words):
    def copy(source, target):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(shutil, "copy2", copy)
    with pytest.raises((InputError, OSError), match=words):
        list(copy_into_folders([_row(_write(tmp_path / "a", "face.png"))], str(tmp_path / "out")))
    assert not list((tmp_path / "out" / "yui").iterdir())


def test_folder_name_is_safe_and_different_for_each_character():
    names = ["..", ".", "a/b", "a%2Fb", "a\\b", "C:", "", "%", "con\0", "yui ", "あかり", "a.b", "Fate/stay night"]
    names += [UNKNOWN, "%75nknown", "Unknown"]
    folders = [folder_name(name) for name in names]
    assert len({folder.lower() for folder in [*folders, UNKNOWN]}) == len(names) + 1
    assert not any(set(folder) & set('/\\:*?"<>|\0') or folder.startswith(".") for folder in folders)
    assert folder_name("あかり") == "あかり" and folder_name("a.b") == "a.b"
