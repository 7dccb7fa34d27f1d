"""Fuzzing: for any bytes a reader returns a result or raises a ValueError of one line, in bounded memory.

Every target gets the files of its corpus, mutations of them, arbitrary bytes and, for some targets, generated files.
The suite tries a few fixed ones. To try many random ones:

    ulimit -v 8000000; FUZZ_EXAMPLES=100000 pytest tests/test_hostile_files.py -k bundle

Add the bytes of a failing example as a file to tests/corpus/TARGET/, which the suite reads.
"""

import collections
import io
import os
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from animesion_jax.bundle import load_bundle
from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.pretrained import google, torch_files
from tests.hostile_seeds import CALIBRATION, CORPUS, CROPS, bundle_tree, seeds
from tfds_builders.common.image_files import image_fault
from tfds_builders.common.manual_data import relative_path
from tfds_builders.common.released_labels import read_class_names, read_released_split
from tfds_builders.dafre.label_files import read_faces, read_tag_names
from tfds_builders.moeimouto.face_files import ZipFaces

FREE = 4 * 2**20  # bytes of memory that a reader may take for any file
TREE = bundle_tree() | {"calibration": CALIBRATION, "crops": CROPS}

NAMES = st.sampled_from(["", "a", "a/b", "é\n", "\0", "0", "name", "params", "__msgpack_chunked_array__", "shape"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(width=32), NAMES,
    st.binary(max_size=6), st.sampled_from([10**9, -1, 0, 16, float("nan"), "shallownet", "vit_h14", "float32"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | st.sampled_from([np.zeros(2, "f"), np.zeros(0, "f"), np.int64(3), np.zeros(2, "c8"), 1j]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    tuple(key.key for key in path[:depth])
    for path, _ in jax.tree_util.tree_leaves_with_path(TREE, is_leaf=lambda leaf: isinstance(leaf, list))
    for depth in range(1, len(path) + 1)
]
DESCRIPTIONS = st.sampled_from(["<f4", ">f4", "<f8", "<f2", "|V2", "|O", "<U3", "<c8", "<i8", "|b1", "(3,)<f4", "|S0"])
WORDS = ["0", "1", "7", "9", "²", "١", "9" * 19, "9" * 5000, ",", '"', "\t", " ", "\n", "\r\n", "\0", "..", "/", "\\",
         "a.jpg", "0000/1.jpg", "C:", "0.9", "nan", "-1e999", "1_0", "\ufeff", "\u2028", "é"]  # fmt: skip


@st.composite
def bundles(draw) -> bytes:
    """A bundle in which up to three values are replaced or missing."""
    tree = jax.tree.map(lambda leaf: leaf, TREE)
    for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=3)):
        place = tree
        for key in path[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[path[-1]] = draw(VALUES)
            if draw(st.booleans()) and draw(st.booleans()):
                del place[path[-1]]
    return flax.serialization.msgpack_serialize(tree)


@st.composite
def archives(draw) -> bytes:
    """An npz whose arrays have random headers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([0, 8, 12]))) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about repeated names
        for name in draw(st.lists(st.sampled_from(["cls.npy", "../x.npy", "opt/step.npy", "a\nb", "é"]), max_size=4)):
            shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, -1, 10**6, 10**12]), max_size=3))
            fields = {"descr": draw(DESCRIPTIONS), "fortran_order": draw(st.booleans()), "shape": tuple(shape)}
            size = draw(st.integers(0, 60) | st.just(4 * abs(int(np.prod(shape))) % 97))
            version = draw(st.sampled_from([1, 1, 1, 2, 3]))
            header = repr(fields).encode()
            length = len(header).to_bytes(2 if version == 1 else 4, "little")
            content = b"\x93NUMPY" + bytes([version, 0]) + length + header + bytes(size)
            archive.writestr(name, content[draw(st.sampled_from([0, 0, 0, 6, 9])) :])
    return file.getvalue()


def _read_split(path: Path) -> None:
    seen: dict[str, str] = {}
    for class_id, image in read_released_split(path, lambda class_id, image: None, seen):
        assert class_id >= 0 and _stays_inside(image)


def _read_faces(path: Path) -> None:
    for row in read_faces(path):
        assert _stays_inside(row.path) and 0 <= row.box.left < row.box.right <= 1


def _stays_inside(image: str) -> bool:
    return os.path.normpath(f"/folder/{image}").startswith("/folder/") and relative_path(image) == image


def _read_zip(path: Path) -> None:
    faces = ZipFaces(path)
    for name in faces.paths:
        assert _stays_inside(name)
        image_fault(faces.find(name), "PNG")


class Target(NamedTuple):
    """A reader, the ending of its files, the bytes of memory allowed per byte of a file, and generated files."""

    read: Callable[[Path], Any]
    suffix: str
    factor: int
    generated: st.SearchStrategy[bytes] = st.nothing()


LINES = st.lists(st.sampled_from(WORDS), max_size=40).map(lambda words: "".join(words).encode())
TARGETS = {
    "bundle": Target(lambda path: load_bundle(str(path)), ".msgpack", 30, bundles()),
    "npz": Target(google.read, ".npz", 30, archives()),
    "safetensors": Target(torch_files.read_safetensors, ".safetensors", 30),
    "split": Target(_read_split, ".csv", 60, LINES),
    "names": Target(read_class_names, ".csv", 60, LINES),
    "faces": Target(_read_faces, ".tsv", 60, LINES),
    "tags": Target(lambda path: read_tag_names(path, [7, 9]), ".tsv", 60, LINES),
    "image": Target(read_image, ".png", 60),
    "face": Target(lambda path: image_fault(path, "PNG"), ".png", 60),
    "zip": Target(_read_zip, ".zip", 60),
}
EDITS: dict[str, Callable[[bytes, int, int, bytes], bytes]] = {
    "overwrite": lambda data, start, end, new: data[:start] + new + data[start + len(new) :],
    "insert": lambda data, start, end, new: data[:start] + new + data[start:],
    "delete": lambda data, start, end, new: data[:start] + data[start + abs(end - start) % 9 :],
    "copy": lambda data, start, end, new: data[:start] + data[end : end + 20] + data[start:],
    "truncate": lambda data, start, end, new: data[:start],
}
# Bytes that declare extreme lengths.
LENGTHS = st.sampled_from(
    [b"\xff", b"\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xdd\0\1\0\0", b"\0"]
)


def corpus(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


@st.composite
def mutated(draw, files: list[bytes]) -> bytes:
    data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        # Half of the places are within the first 200 bytes, where headers are.
        places = st.integers(0, len(data)) | st.integers(0, min(200, len(data)))
        edit = draw(st.sampled_from(list(EDITS)))
        data = EDITS[edit](data, draw(places), draw(places), draw(LENGTHS | st.binary(min_size=1, max_size=4)))
    return data


def check_outcome(name: str, data: bytes, folder: Path) -> bool:
    """Asserts the conditions on any file; returns whether it was read."""
    target = TARGETS[name]
    path = folder / f"file{target.suffix}"
    path.write_bytes(data)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    read = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(path)
    except ValueError as error:
        read = False
        assert isinstance(error, InputError)
        assert "MemoryError" not in str(error)
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 3000
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= FREE + target.factor * len(data), f"{peak} bytes of memory for a file of {len(data)}"
    assert [each.name for each in folder.iterdir()] == [path.name]
    return read


@pytest.fixture(autouse=True)
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", TARGETS)
def test_readers_read_or_refuse_the_corpus(name, tmp_path):
    outcomes = [check_outcome(name, data, tmp_path) for data in corpus(name)]
    assert any(outcomes)


@pytest.mark.parametrize("name", TARGETS)
def test_readers_read_or_refuse_random_files(name, tmp_path):
    was_read = collections.Counter()
    files = st.one_of(mutated(corpus(name)), mutated(corpus(name)), TARGETS[name].generated, st.binary(max_size=60))

    @settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", 60)), derandomize="FUZZ_EXAMPLES" not in os.environ,
        deadline=None, database=None, print_blob=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(files)
    def check(data: bytes) -> None:
        was_read[check_outcome(name, data, tmp_path)] += 1

    check()
    assert was_read[False] > 10 or name == "face"


def test_corpus_has_the_files_that_hostile_seeds_writes():
    written = dict(seeds())
    for path in ("bundle/whole", "bundle/small", "safetensors/whole", *(p for p in written if p.startswith("split"))):
        assert (CORPUS / path).read_bytes() == written[path]
    assert all((CORPUS / path).exists() for path in written)
