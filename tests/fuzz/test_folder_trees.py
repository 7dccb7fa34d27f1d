"""On any tree of folders, predict and training find the same images, and raise only InputErrors."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animesion_jax.errors import InputError
from animesion_jax.images import describe, find_images, is_image_name, is_system_name
from animesion_jax.images.finding import LINKED, SYSTEM, SYSTEM_NAMES
from tests.fuzz import fuzz
from tfds_builders.folder.layout import read_layout
from tfds_builders.folder.survey import survey

ANY = st.binary(min_size=1, max_size=255).map(lambda name: os.fsdecode(name.translate(None, b"\0/")))
FOLDERS = st.one_of(
    st.sampled_from(["yui", "あかり", "a b", "@artist", "train", "Test", "val", "dev", "x.png", "~", "-rf", "é", "é"]),
    st.sampled_from(sorted(SYSTEM_NAMES)).flatmap(lambda name: st.sampled_from([name, name.upper(), f"{name}2"])),
    st.sampled_from([".ipynb_checkpoints", ".Trash-1000", "..."]),
    ANY,
)
FILES = st.one_of(
    st.sampled_from(["a.png", "b.JPG", "c.heic", "a.png.explained.png", "n\n.gif", "x.jxl", "x.png.txt", "x", ".png"]),
    st.sampled_from(["._a.png", "Thumbs.db", "desktop.ini", "Icon\r"]),
    ANY.map(lambda name: name[:60] + ".webp"),
    ANY,
)
# What is at the end of a path: a file, or a link to a path of the tree.
PATHS = st.tuples(
    st.lists(FOLDERS, max_size=3), FILES, st.sampled_from(["file"] * 6 + ["folder", "link", "loop", "broken", "pipe"])
)


def _draw(root: Path, paths: list[tuple[list[str], str, str]]) -> None:
    """Makes the tree; leaves out paths that the file system refuses."""
    root.mkdir()
    for place, (folders, file, kind) in enumerate(paths):
        path = root.joinpath(*(folder for folder in folders if folder not in ("", ".", "..")), file or "a")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "file":
                path.touch(exist_ok=False)  # opening a pipe would wait
                path.write_bytes(b"no image")
            elif kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                target = root.joinpath(*paths[place - 1][0]) if kind == "link" else path if kind == "loop" else "gone"
                path.symlink_to(target)
        except OSError:
            pass


def _expected(root: Path) -> tuple[set[Path], Counter]:
    """Returns the images of a tree, and the numbers of system files and of linked folders, by os.walk."""
    images, left_out = set(), Counter()
    for parent, folders, names in os.walk(root):
        left_out[SYSTEM] += sum(map(is_system_name, folders + names))
        folders[:] = [name for name in folders if not is_system_name(name)]
        left_out[LINKED] += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        for path in (Path(parent, name) for name in names if is_image_name(name) and not is_system_name(name)):
            if path.is_symlink() or path.is_file():
                images.add(path)
    return images, +left_out


@fuzz
@given(st.lists(PATHS, min_size=1, max_size=12))
def test_predict_and_training_take_the_same_images_of_a_tree(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("trees") / "tree"
    _draw(root, paths)
    try:
        images, left_out = _expected(root)
        with pytest.MonkeyPatch.context() as patched:
            counts = []
            patched.setattr("animesion_jax.images.finding.describe", lambda kinds: counts.append(kinds) or "")
            try:
                found = find_images([str(root)])
            except InputError as error:
                assert not images and len(str(error).splitlines()) == 1
                return
        assert set(found) == images and found == sorted(found)
        assert {kind: sum(each[kind] for each in counts) for kind in left_out} == dict(left_out)
        try:
            layout = read_layout(root)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            return
        assert len(describe(layout.left_out).splitlines()) <= 1
        # Training follows links to characters' folders.
        trained = {image.path for image in layout.images}
        behind_links = {path for path in trained if path not in images}
        levels = [root, *(path for path in root.iterdir() if layout.has_splits)]
        links = {path for level in levels if level.is_dir() for path in level.iterdir() if path.is_symlink()}
        assert all(links.intersection(path.parents) for path in behind_links)
        loose = len(layout.loose)
        assert trained - behind_links <= images and len(trained - behind_links) + loose >= len(images)
        try:
            survey(layout, skip_broken=True)
        except InputError as error:
            assert len(str(error).splitlines()) == 1
    finally:
        shutil.rmtree(root)
