"""Label files that `csv.writer` wrote: every name and path is read back, and TFDS keeps the names."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.fuzz import fuzz
from tfds_builders.common.manual_data import relative_path
from tfds_builders.common.released_labels import read_class_names, read_released_split

# Quotation marks, commas and separators of which `str.splitlines` makes line ends. Only "\n" and "\r" end a line.
LETTERS = st.sampled_from("\"',;|\t \\/\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\ufeffab09\u00e9\u3042\U0001f600")
ANY_LETTER = st.characters(exclude_categories=["Cs"], exclude_characters="\n\r")
NAMES = st.text(LETTERS | ANY_LETTER, max_size=30).map(str.strip).filter(len)
DIALECTS = st.fixed_dictionaries(
    {
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r", "\n\n", ",\n"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    }
)


def _write(folder: str, rows: list[tuple], dialect: dict, mark: str = "") -> Path:
    path, text = Path(folder) / "labels.csv", io.StringIO(newline="")
    csv.writer(text, **{**dialect, "lineterminator": "\n"}).writerows(rows)
    # Python 3.13's writer refuses a line end with a comma; the rows have no other "\n".
    written = mark + text.getvalue().replace("\n", dialect.get("lineterminator", "\r\n"))
    path.write_text(written, encoding="utf-8", newline="")
    return path


@fuzz
@given(st.lists(NAMES, min_size=1, max_size=12, unique=True), DIALECTS, st.sampled_from(["", "\ufeff"]))
@example(["Saber, Lily", '"nene"_solstice', 'li_"xiaolang"', '"', '""', 'a\u2028b,"'], {}, "")
def test_names_that_csv_wrote_are_read_and_stored(names, dialect, mark):
    with tempfile.TemporaryDirectory() as folder:
        read = read_class_names(_write(folder, list(enumerate(names)), dialect, mark))
        assert read == names
        tfds.features.ClassLabel(names=read).save_metadata(folder, "label")
        stored = tfds.features.ClassLabel()
        stored.load_metadata(folder, "label")
        assert stored.names == names


@fuzz
@given(st.lists(NAMES, min_size=1, max_size=12), DIALECTS, st.booleans())
@example(['Saber, "Lily"', "a, b"], {}, True)
def test_paths_that_csv_wrote_are_read_in_both_orders(names, dialect, path_first):
    paths = [f"x{number}/{name}.png" for number, name in enumerate(names)]
    try:
        expected = [(number, relative_path(path)) for number, path in enumerate(paths)]
    except ValueError:
        assume(False)
    rows = [(path, number) if path_first else (number, path) for number, path in enumerate(paths)]
    with tempfile.TemporaryDirectory() as folder:
        path = _write(folder, rows, dialect)
        assert read_released_split(path, lambda *row: None, {}) == expected


@fuzz
@given(st.lists(NAMES, max_size=12, unique=True), NAMES, st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_unclosed_quotes_are_refused_with_their_line(names, name, end, data):
    """Within a name a line end leaves the quotes open; the lines after it are not swallowed."""
    place = data.draw(st.integers(0, len(names)))
    names.insert(place, f"{name}{end}{name}")
    with tempfile.TemporaryDirectory() as folder:
        path = _write(folder, list(enumerate(names)), {"lineterminator": "\n", "quoting": csv.QUOTE_ALL})
        with pytest.raises(ValueError, match="close it on the same line") as error:
            read_class_names(path)
    assert str(error.value).startswith(f"{path} line {place + 1}: ") and len(str(error.value)) < 1000
