import tracemalloc

import pytest

from tests.conftest import SHARED
from tfds_builders.common.manual_data import MAX_CHARACTERS, MAX_EXCERPT, read_lines, relative_path
from tfds_builders.common.released_labels import NAMES_FILE, check_named, read_class_names, read_released_split
from tfds_builders.dafre.label_files import Box, Row, parse_raw_line, read_faces, read_tag_names


def _file(folder, text: str | bytes):
    path = folder / "labels.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _read_split(path):
    return read_released_split(path, lambda class_id, image: None, {})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0446/1.jpg\t7", "expected path"),
        ("0446/1.jpg\tseven\t0,0,1,1 0.9", "expected path"),
        ("0446/1.jpg\t7\t0,0,1 0.9", "five numbers"),
        ("0446/1.jpg\t7\t0,0,one,1 0.9", "five numbers"),
        ("0446/1.jpg\t7\t0,0,nan,1 0.9", "five numbers"),
        ("0446/1.jpg\t7\t0.5,0,0.5,1 0.9", "box is empty"),
        ("0446/1.jpg\t7\t0,1.01,1,1.2 0.9", "box is empty"),
        ("../1.jpg\t7\t0,0,1,1 0.9", "leaves the folder"),
        ("446/2.jpg\t7\t0,0,1,1 0.9", "twice, before in .*labels.txt line 1"),
        ("0446\\2.jpg\t7\t0,0,1,1 0.9", "twice, before in .*labels.txt line 1"),
    ],
)
def test_bad_raw_lines_name_file_line_and_content(tmp_path, line, words):
    path = _file(tmp_path, f"0446/2.jpg\t7\t0,0,1,1 0.9\n\n{line}\n")
    with pytest.raises(ValueError, match=words) as error:
        read_faces(path)
    assert str(error.value).startswith(f"{path} line 3: {line!r}: ")
    assert "\n" not in str(error.value)


def test_rows_below_the_confidence_are_dropped_with_any_box(tmp_path):
    rows = ("1/1.jpg\t7\t0,0,1,1 0.85", "2/2.jpg\t7\t0.5,0,0.5,1 0.84", "1/1.jpg\t7\t0,0,1,1 0.8499")
    assert read_faces(_file(tmp_path, "\n".join(rows))) == [Row("1/1.jpg", 7, Box(0, 0, 1, 1, 0.85))]


def test_boxes_are_clipped_to_the_image(tmp_path):
    (row,) = read_faces(_file(tmp_path, "1/1.jpg\t7\t-0.1,0.2,1.3,0.9 0.97"))
    assert row.box == Box(0.0, 0.2, 1.0, 0.9, 0.97)


def test_raw_line_accepts_commas_or_blanks_and_both_slashes():
    forms = ["0.1, 0.2, 0.6, 0.8 0.95", "0.1 0.2 0.6 0.8 0.95", "0.1,0.2,0.6,0.8,0.95"]
    rows = {parse_raw_line(f"0446{slash}332446.jpg\t12\t{form}") for form in forms for slash in "/\\"}
    assert rows == {Row("0446/332446.jpg", 12, Box(0.1, 0.2, 0.6, 0.8, 0.95))}


@pytest.mark.parametrize("read", [read_class_names, read_faces, lambda path: read_tag_names(path, [0])])
def test_bytes_other_than_utf8_are_refused(tmp_path, read):
    path = _file(tmp_path, b"\n" + "0,\u3042\n".encode("shift_jis"))
    with pytest.raises(ValueError, match="not UTF-8; save the file as UTF-8") as error:
        read(path)
    assert str(error.value).startswith(f"{path} line 2: {b'0,' + bytes([0x82, 0xA0])!r}: ")


def test_class_names_are_utf8_with_or_without_a_byte_order_mark(tmp_path):
    for mark in ("", "\ufeff"):
        assert read_class_names(_file(tmp_path, f"{mark}0,\u3042\u304b\u308a\r\n1,yui, the younger\r\n")) == [
            "\u3042\u304b\u308a",
            "yui, the younger",
        ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('1,"Saber, Lily"', "Saber, Lily"),
        ('"1","Saber, Lily"', "Saber, Lily"),
        ('1, "Saber, Lily" ', "Saber, Lily"),
        ('1,"Saber, Lily",', "Saber, Lily"),
        ('1,"say ""hi"""', 'say "hi"'),
        ('1,"""nene""_neville_solstice"', '"nene"_neville_solstice'),
        ('1,john_"hannibal"_smith', 'john_"hannibal"_smith'),
        ("1,yui, the younger", "yui, the younger"),
        ('1,li "xiaolang", the wolf', 'li "xiaolang", the wolf'),
        ("1,yui,,", "yui"),
        ("1,a\u2028b\x85c\x0bd", "a\u2028b\x85c\x0bd"),
    ],
)
def test_class_names_are_read_as_csv(tmp_path, line, name):
    for mark in ("", "\ufeff"):
        assert read_class_names(_file(tmp_path, f"{mark}0,akari\r\n\r\n{line}\r\n2,miku\r\n")) == [
            "akari",
            name,
            "miku",
        ]


@pytest.mark.parametrize(
    "line", ['1,"Saber', '1,"Saber" Lily', '1,"nene"_solstice', '1,"Saber",Lily', '1,a, "b"', '"1,a"']
)
def test_misplaced_quotes_are_refused_with_their_line(tmp_path, line):
    for read, first in ((read_class_names, "0,a"), (_read_split, "0,a.jpg")):
        path = _file(tmp_path, f'{first}\n\n{line}\n2,"b"\n')
        with pytest.raises(ValueError, match="expected two columns; quote a column that has commas") as error:
            read(path)
        assert str(error.value).startswith(f"{path} line 3: {line!r}: ")


@pytest.mark.parametrize("line", ['3,"0007/a, ""b"".jpg"', '"0007/a, ""b"".jpg",3', '"3","0007\\a, ""b"".jpg",'])
def test_paths_are_read_as_csv_in_both_orders(tmp_path, line):
    assert _read_split(_file(tmp_path, f"{line}\r\n")) == [(3, '0007/a, "b".jpg')]


@pytest.mark.shared
@pytest.mark.parametrize(("dataset", "classes", "images"), [("dafre", 3263, 94_440), ("moeimouto", 173, 2943)])
def test_released_rows_are_read_unchanged(dataset, classes, images):
    """They have no quotation marks, and one comma a line."""
    folder = SHARED / "labels" / dataset
    names, rows = (
        [tuple(line.split(",")) for line in (folder / name).read_text().splitlines()]
        for name in (NAMES_FILE, "test.csv")
    )
    assert list(enumerate(read_class_names(folder / NAMES_FILE))) == [(int(class_id), name) for class_id, name in names]
    assert _read_split(folder / "test.csv") == [(int(class_id), path) for class_id, path in rows]
    assert (len(names), len(rows)) == (classes, images)


def test_error_shows_an_excerpt_of_a_long_line(tmp_path):
    for line in (b"x" * 100_000, b"\xff" * 100_000):
        with pytest.raises(ValueError, match="line 1") as error:
            read_class_names(_file(tmp_path, line))
        assert len(str(error.value)) < len(str(tmp_path)) + 4 * MAX_EXCERPT + 200


def test_errors_show_an_excerpt_of_a_long_name(tmp_path):
    name = "\U000e0001" * 16_000  # repr writes each letter with ten
    for text, read in {
        f"0,{name}\n1,{name}\n": read_class_names,
        f"{name}\t7\nyui\t7\n": lambda path: read_tag_names(path, [7]),
        f'0,"{name}\n': read_class_names,
        f"{name * 2}\n": read_class_names,
    }.items():
        with pytest.raises(ValueError, match="characters") as error:
            read(_file(tmp_path, text))
        assert len(str(error.value)) < len(str(tmp_path)) + 2 * MAX_EXCERPT + 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no class"),
        ("0,a\n2,b\n", "0 to 1 without a gap; 1 is missing"),
        ("0,a\n1,a\n", "'a' stands for two classes"),
        ("0,a\n" + "9" * 5000 + ",b\n", "line 2: '9999"),
    ],
)
def test_class_names_must_be_distinct_and_without_a_gap(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        read_class_names(_file(tmp_path, text))


def test_tag_with_two_names_is_refused(tmp_path):
    path = _file(tmp_path, "yui\t30\nakari\t12\nyui\t30\nrare\t45\nother\t45\n")
    assert read_tag_names(path, [12, 30]) == {12: "akari", 30: "yui"}
    with pytest.raises(ValueError, match=r"line 5: 'other\\t45': tag id 45 already has the name 'rare'"):
        read_tag_names(path, [12, 45])


def test_quotation_marks_of_tag_names_are_kept(tmp_path):
    """tagIds.tsv is no CSV: tag 26742 is named so in it."""
    assert read_tag_names(_file(tmp_path, '"nene"_neville_solstice\t26742\n'), [26742]) == {
        26742: '"nene"_neville_solstice'
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yui 30\n", r"line 1: 'yui 30': expected tag name <TAB> tag id"),
        ("yui\t30\n", r"no name for tag id 12 \(1 tags"),
        ("yui\t30\nyui\t12\n", "'yui' stands for two classes"),
    ],
)
def test_tag_names_must_be_complete_and_distinct(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        read_tag_names(_file(tmp_path, text), [12, 30])


@pytest.mark.parametrize(
    "path", ["a//b.jpg", "/a.jpg", "a/../b.jpg", "..\\b.jpg", "./a.jpg", "C:/a.jpg", "a\0.jpg", ""]
)
def test_paths_out_of_the_folder_are_refused(path):
    with pytest.raises(ValueError, match="leaves the folder"):
        relative_path(path)


def test_blank_lines_are_skipped_but_numbered(tmp_path):
    path = _file(tmp_path, "a\r\n \nb")
    assert list(read_lines(path)) == [(f"{path} line 1", "a"), (f"{path} line 3", "b")]


# `int` or `str.isdecimal` accept most of these.
@pytest.mark.parametrize("class_id", ["²", "١٢", "1_0", "+1", "9" * 19])
def test_ids_other_than_18_ascii_digits_are_refused(tmp_path, class_id):
    files = {
        f"{class_id},a\n": read_class_names,
        f"{class_id},a.jpg\n": _read_split,
        f"a.jpg\t{class_id}\t0,0,1,1 0.9\n": read_faces,
        f"yui\t{class_id}\n": lambda path: read_tag_names(path, [12]),
    }
    for text, read in files.items():
        path = _file(tmp_path, "\n" + text)
        with pytest.raises(ValueError, match=r"line 2: .*: expected ") as error:
            read(path)
        assert str(error.value).startswith(f"{path} line 2: ") and len(str(error.value).splitlines()) == 1


def test_large_class_ids_take_no_memory(tmp_path):
    tracemalloc.start()
    largest = "9" * 18
    rows = _read_split(_file(tmp_path, f"{largest},a.jpg\n"))
    assert rows == [(10**18 - 1, "a.jpg")]
    with pytest.raises(ValueError, match=r"class id 9{18} has no name in .*; allowed: 0 to 1"):
        check_named(rows[0][0], ["a", "b"])
    with pytest.raises(ValueError, match="0 to 1 without a gap; 1 is missing"):
        read_class_names(_file(tmp_path, f"0,a\n{largest},b\n"))
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_only_folders_of_ascii_digits_compare_as_numbers(tmp_path):
    """٠٠٧ and 7 are different folders."""
    assert len(_read_split(_file(tmp_path, "0,7/1.jpg\n0,٠٠٧/1.jpg\n"))) == 2
    with pytest.raises(ValueError, match="the image is listed twice"):
        _read_split(_file(tmp_path, "0,7/1.jpg\n0,007/1.jpg\n"))


@pytest.mark.parametrize("byte", [b"a", b"\xff", b" "])
def test_endless_line_is_refused_without_reading_all_of_it(tmp_path, byte):
    path = _file(tmp_path, b"0,a\n" + byte * 10_000_000)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"line 2: .*(over 16383 characters|not UTF-8)") as error:
        read_class_names(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6 and len(str(error.value)) < 2000
    tracemalloc.stop()


def test_line_of_the_maximum_length_is_read(tmp_path):
    name = "a" * (MAX_CHARACTERS - 3)
    assert read_class_names(_file(tmp_path, f"0,{name}\n1,b\n")) == [name, "b"]
