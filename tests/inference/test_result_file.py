"""Files of predictions, with any image names, interrupted at any byte, and by one process at a time."""

import os
from pathlib import Path

import flax.serialization
import pytest
from PIL import Image

from animesion_jax.errors import InputError
from animesion_jax.inference import recognizer
from animesion_jax.inference.result_file import open_result_file
from animesion_jax.main import main
from tests.hostile_seeds import bundle_tree

# Everything at which `str.splitlines` ends a line, and what CSV and JSON quote.
SEPARATORS = ["\n", "\r", "\r\n", *"\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", '"', '","', "\\", "\udcff", "\\n"]
NAMES = [Path(f"{number}{separator}x.jpg") for number, separator in enumerate(SEPARATORS)]
CHARACTERS = ['c"\n', "a\u2028b\r", "third"]
RANKS = 2


def _rows(files):
    """Yields the rows that a recognizer of two characters with odd names gives."""
    ranked = [{"class": "a\u2028b\r", "class_id": 1, "probability": 0.75}]
    ranked += [{"class": 'c"\n', "class_id": 0, "probability": 0.25}]
    for file in files:
        if str(file).startswith("3"):
            yield {"path": str(file), "error": "no image"}
        else:
            yield {"path": str(file), "unknown": False, "predictions": ranked}


def _complete(output, files):
    """Adds the rows of the missing files and returns these."""
    with open_result_file(str(output)) as result_file:
        missing = result_file.missing(files, CHARACTERS, RANKS)
        result_file.write(_rows(missing))
    return missing


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_completed_file_equals_an_uninterrupted_one_after_a_cut_at_any_byte(tmp_path, suffix):
    output = tmp_path / f"names.{suffix}"
    assert _complete(output, NAMES) == NAMES
    content = output.read_bytes()
    assert content.endswith(b"\n") and content.count(b"\n") >= len(NAMES)
    for length in range(0, len(content) + 1, 3):
        output.write_bytes(content[:length])
        _complete(output, NAMES)
        assert output.read_bytes() == content, length
    assert _complete(output, NAMES) == []


def test_lines_of_json_are_whole_for_readers_that_split_at_every_separator(tmp_path):
    _complete(tmp_path / "names.jsonl", NAMES)
    assert len((tmp_path / "names.jsonl").read_text(encoding="utf-8").splitlines()) == len(NAMES)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_finished_file_gets_only_new_images(tmp_path, suffix, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / f"names.{suffix}"
    old, new = [Path("faces", name) for name in NAMES[:6]], [Path("faces", name) for name in NAMES[6:]]
    _complete(output, old)
    before = output.read_bytes()
    assert _complete(output, [*new, *reversed(old), *new]) == new
    after = output.read_bytes()
    assert after.startswith(before) and after != before
    # The same images by another path.
    assert _complete(output, [tmp_path / file for file in old + new]) == []
    assert _complete(output, [Path("..", tmp_path.name, file) for file in old + new]) == []
    assert output.read_bytes() == after
    # Other images of these relative paths.
    monkeypatch.chdir("/")
    assert _complete(output, [tmp_path / file for file in old[:1]]) == [tmp_path / old[0]]


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """Returns a function that runs predict on an image; it records in `loaded` whether it loads a bundle."""
    (tmp_path / "b.msgpack").write_bytes(flax.serialization.msgpack_serialize(bundle_tree()))
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    load, loaded = recognizer.load, []
    monkeypatch.setattr(recognizer, "load", lambda *arguments: loaded.append(arguments) or load(*arguments))

    def predict(*flags, bundle="b.msgpack"):
        return main(["animesion", "predict", f"--bundle={tmp_path / bundle}", *flags, str(tmp_path / "a.png")])

    predict.loaded = loaded
    return predict


def test_second_predict_on_one_output_is_refused_before_it_loads_the_bundle(predict, tmp_path, capsys):
    output, link = tmp_path / "names.csv", tmp_path / "link.csv"
    link.symlink_to(output)
    with open_result_file(str(output)) as first:
        files = first.missing(NAMES, CHARACTERS, RANKS)
        first.write(_rows(files[:3]))
        before = output.read_bytes()
        for name in (output, link):
            assert predict(f"--output={name}") == 2
            message = capsys.readouterr().err
            assert f"another predict is writing --output={name}; wait until it ends" in message
        assert output.read_bytes() == before and not predict.loaded
        first.write(_rows(files[3:]))
    output.unlink()
    assert predict(f"--output={output}") == 0


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("names", "top_k", "words"),
    [
        (["other", *CHARACTERS[1:]], RANKS, "predictions of another bundle"),
        (CHARACTERS[:1], 1, "of another bundle|2 characters per image, and --top_k asks for 1"),
        (CHARACTERS, 1, "2 characters per image, and --top_k asks for 1; give another file"),
        (CHARACTERS, 3, "2 characters per image, and --top_k asks for 3; give another file"),
    ],
)
def test_file_of_another_bundle_or_top_k_is_refused(tmp_path, suffix, names, top_k, words):
    output = tmp_path / f"names.{suffix}"
    _complete(output, NAMES)
    before = output.read_bytes()
    with open_result_file(str(output)) as result_file, pytest.raises(InputError, match=words):
        result_file.missing(NAMES, names, top_k)
    assert output.read_bytes() == before


def test_predict_that_fails_to_load_its_bundle_leaves_no_output(predict, tmp_path):
    assert predict(f"--output={tmp_path / 'names.csv'}", bundle="absent.msgpack") == 2
    assert predict.loaded and not (tmp_path / "names.csv").exists()


def test_open_result_file_refuses_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="allowed: a file named"), open_result_file(str(tmp_path / "pipe.csv")):
        pass
