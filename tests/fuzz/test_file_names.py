"""Fuzzing of file names: every byte but "/" and NUL, every length to 255, for the commands that read images."""

import contextlib
import csv
import dataclasses
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import flax.serialization
import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from animesion_jax.bundle import Bundle, build_bundle, load_bundle
from animesion_jax.errors import InputError, escape
from animesion_jax.inference import enroll, recognizer
from animesion_jax.inference.explain import Explainer
from animesion_jax.inference.overlays import explain_files
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.main import main
from tests.fuzz import fuzz
from tests.hostile_seeds import CALIBRATION, bundle_tree

LONGEST = 255
DRAW = np.random.default_rng(5)
TREE = bundle_tree() | {"calibration": CALIBRATION | {"threshold": 0.4}}
# Features of zeros cannot be enrolled.
TREE["variables"] = jax.tree.map(lambda leaf: DRAW.uniform(0, 0.1, leaf.shape).astype("f"), TREE["variables"])
ODD = ["\u2028", "\r", "\n", "\x85", "あ", "😀", "e\u0301", " ", ".", "-", "~", '"', ",", "%", "\\", ":", "\ufeff"]
PARTS = st.binary(min_size=1, max_size=3) | st.sampled_from(ODD).map(str.encode)
# A part that is repeated, between two others, with the ending of an image or another one.
NAMES = st.builds(
    lambda start, part, times, end: (start + part * times)[: LONGEST - len(end)] + end,
    st.binary(max_size=8) | PARTS,
    PARTS,
    st.integers(0, LONGEST),
    st.sampled_from([b".png", b".png", b".jpg", b"", b".txt", b" "]),
).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
NAMES = NAMES.filter(lambda name: name not in (b"", b".", b".."))
CHARACTERS = st.builds(lambda text, times: text * times, st.text(max_size=4), st.sampled_from([1, 1, 1, 2, 90, 255]))


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "pink").save(file, "PNG")
    return file.getvalue()


PNG = _png()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return build_bundle("bundle", TREE)


@contextlib.contextmanager
def _images(names: list[bytes]) -> Iterator[tuple[Path, list[Path]]]:
    """Yields a new folder, and images of these names in its folder `in`."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/in")
        files = [os.path.join(os.fsencode(folder), b"in", name) for name in names]
        for file in files:
            with open(file, "wb") as stream:
                stream.write(PNG)
        yield Path(folder), [Path(os.fsdecode(file)) for file in files]


def _read(output: Path) -> list[tuple[str, bool]]:
    """Returns (path, whether it has an error) of each row in a file of predictions with one row per image."""
    if output.suffix == ".csv":
        with output.open(newline="", encoding="utf-8") as stream:
            return [(row["path"], bool(row["error"])) for row in csv.DictReader(stream)]
    rows = map(json.loads, output.read_bytes().split(b"\n")[:-1])
    return [(row["path"].encode(errors="backslashreplace").decode(), "error" in row) for row in rows]


@fuzz
@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    character=CHARACTERS,
    suffix=st.sampled_from(["csv", "jsonl"]),
    cut=st.floats(0, 1),
)
@example(names=["003\u2028x.jpg".encode(), b"z.png"], character="yui", suffix="csv", cut=0.9)
@example(names=["あ".encode() * 83 + b".png", b"z.png"], character="yui", suffix="csv", cut=1.0)
@example(names=[b"a\xff.png", b"b.png"], character="あ" * 86, suffix="jsonl", cut=0.5)
def test_predict_takes_any_name(bundle, shared_recognizer, names, character, suffix, cut):
    shared_recognizer.bundle = dataclasses.replace(bundle, classes=(character, character))
    with _images(names) as (folder, files), contextlib.chdir(folder / "in"):
        output = folder / f"names.{suffix}"
        flags = ["predict", "--bundle=any", "--top_k=1", f"--output={output}", f"--copy_to={folder / 'sorted'}"]
        flags += ["--sidecar", f"--sidecar_to={folder / 'tags'}", "--"]
        images = [file.name if not file.name.startswith("~") else str(file) for file in files]
        status = main(["animesion", *flags, *images])
        rows = _read(output)
        assert [path for path, _ in rows] == [image.encode(errors="backslashreplace").decode() for image in images]
        assert status == any(failed for _, failed in rows)
        copies = {os.fsencode(file.name) for file in (folder / "sorted").rglob("*") if file.is_file()}
        texts = {os.fsencode(file.name) for file in (folder / "tags").rglob("*") if file.is_file()}
        has_tag = bool(character.strip())
        for name, (_, failed) in zip(names, rows, strict=True):
            fits = name in copies and (not has_tag or len(name) + 4 <= LONGEST)
            assert failed != fits and (name + b".txt" in texts) == (fits and has_tag)
        assert copies <= set(names) and len(texts) <= len(names)
        # Resuming at any byte gives the same file.
        content = output.read_bytes()
        output.write_bytes(content[: round(cut * len(content))])
        main(["animesion", *flags, *images])
        assert output.read_bytes() == content
        assert not [file for file in folder.rglob("*.tmp") if file.name.startswith(".")]


@pytest.fixture(scope="module")
def shared_recognizer(bundle):
    """A recognizer, compiled once, that `load` returns for every bundle."""
    shared = Recognizer(bundle, 4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recognizer, "load", lambda path, batch_size: shared)
        patched.setattr(enroll, "Recognizer", lambda bundle, batch_size: shared)
        yield shared


@pytest.fixture(scope="module")
def explainer(bundle):
    return Explainer(bundle)


@fuzz
@given(names=st.lists(NAMES, min_size=1, max_size=3, unique=True))
@example(names=["あ".encode() * 80 + b".png", b"z.png"])
def test_explain_takes_any_name(explainer, names):
    with _images(names) as (folder, files):
        rows = list(explain_files(explainer, files, output=str(folder / "out")))
        for name, file, row in zip(names, files, rows, strict=True):
            assert row["path"] == str(file) and ("error" in row) == (len(name) + len(".explained.png") > LONGEST)
            if "error" not in row:
                assert os.fsencode(row["overlay"]) == os.fsencode(folder) + b"/out/" + name + b".explained.png"
                with Image.open(row["overlay"]) as overlay:
                    assert overlay.size == (20, 20)


@fuzz
@given(name=NAMES, output=NAMES, character=CHARACTERS)
@example(name=b"-x.png", output="あ".encode() * 85, character="a\u2028b")
def test_enroll_takes_any_name(bundle, shared_recognizer, name, output, character):
    shared_recognizer.bundle = bundle
    with _images([name]) as (folder, files):
        source, target = folder / "b.msgpack", folder / os.fsdecode(output)
        source.write_bytes(flax.serialization.msgpack_serialize(TREE))
        try:
            path, result = enroll.enroll(str(source), character, files, str(target))
        except InputError as error:
            assert "\n" not in str(error)
            assert "--name=" in str(error)
            assert character.strip().lower() in ("", "unknown", *TREE["classes"]) or escape(character) != character
            return
        assert os.fspath(path) == str(target) and result["name"] == character
        assert np.isclose(np.linalg.norm(load_bundle(str(target)).enrolled.embeddings), 1)
