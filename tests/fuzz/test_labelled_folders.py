"""`evaluate --bundle` on folders with any names counts every image once, for one character."""

import contextlib
import io
import json
import math
import os
import shutil
import unicodedata
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from animesion_jax.inference import evaluate
from animesion_jax.inference.sort_images import folder_name
from animesion_jax.main import main
from tests.fuzz import fuzz
from tests.hostile_seeds import CALIBRATION, bundle_tree

NAMES = ("yui", "あかり", "É", "Re:ゼロ")
# Spellings of a character's name, names of splits, hidden ones, and any bytes.
FOLDERS = st.one_of(
    st.sampled_from(NAMES).map(folder_name),
    st.sampled_from(NAMES).map(str.upper).map(folder_name),
    st.sampled_from(NAMES).map(lambda name: unicodedata.normalize("NFD", folder_name(name))),
    st.sampled_from(["train", "Test", "unknown", ".hidden", "a.png"]),
    st.binary(min_size=1, max_size=255).map(lambda name: os.fsdecode(name.translate(None, b"\0/"))),
).filter(lambda name: name not in ("", ".", ".."))
FILES = st.sampled_from(["a.png", "b.png", "deep/c.png", "broken.png", "notes.txt"])


@fuzz
@given(st.lists(st.text(min_size=1), unique=True, min_size=1), st.data())
def test_match_names_finds_a_character_of_the_name_for_every_spelling(names, data):
    name = data.draw(st.sampled_from(names))
    assert evaluate.match_names([name], names) == {name: names.index(name)}
    for spelling in (folder_name(name), unicodedata.normalize("NFD", name), name.upper()):
        for class_id in evaluate.match_names([spelling], names).values():
            found = {names[class_id], folder_name(names[class_id])}
            caseless = {unicodedata.normalize("NFKC", unicodedata.normalize("NFC", each).casefold()) for each in found}
            assert unicodedata.normalize("NFKC", unicodedata.normalize("NFC", spelling).casefold()) in caseless


def _uniform(bundle, variables, images, labels):
    """Replaces the model, which takes a second to compile; gives each of four characters 0.25."""
    ones = jnp.ones(len(labels))
    return jnp.stack([ones * jnp.log(4), labels * ones, 0 * ones, ones / 4], axis=-1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A calibrated bundle of four characters."""
    tree = bundle_tree()
    tree["classes"], tree["model"]["num_classes"] = list(NAMES), 4
    head = tree["variables"]["params"]["head"]
    for name, array in head.items():
        head[name] = array[..., [0] * 4]
    tree["calibration"] = CALIBRATION
    path = tmp_path_factory.mktemp("bundle") / "b.msgpack"
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluate, "_step", _uniform)
        yield path


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("trees")


@fuzz
@given(tree=st.dictionaries(FOLDERS, st.sets(FILES, min_size=1), min_size=1, max_size=5))
def test_evaluate_counts_every_image_once_or_raises_an_input_error(tree, bundle, workplace):
    root = workplace / "faces"
    shutil.rmtree(root, ignore_errors=True)
    for folder, files in tree.items():
        for file in files:
            path = root / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if file in ("broken.png", "notes.txt"):
                path.write_text("no image")
            else:
                Image.new("RGB", (8, 8)).save(path)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())) as printed:
        with contextlib.redirect_stderr(io.StringIO()) as messages:
            status = main(["animesion", "evaluate", f"--bundle={bundle}", str(root)])
        printed.flush()
        text = printed.buffer.getvalue().decode()
    if status == 2:
        assert not text and len(messages.getvalue().splitlines()) == 1
        return
    result = json.loads(text)
    counted = {name for name in tree if Path(root, name).is_dir() and not name.startswith(".")}
    images = sum(len(tree[name] - {"notes.txt"}) for name in counted)
    broken = sum("broken.png" in tree[name] for name in counted)
    assert (status, result["unreadable"]) == (int(broken > 0), broken)
    strangers = sum(result["unknown_characters"].values())
    unreadable_strangers = sum("broken.png" in tree[name] for name in result["unknown_characters"])
    assert result["examples"] == images - strangers - (broken - unreadable_strangers)
    assert (result["false_reject_rate"], result["loss"]) == (1, pytest.approx(math.log(4)))
