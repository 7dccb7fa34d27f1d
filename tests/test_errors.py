"""Error messages are one line, and fit on a screen."""

import pytest

from animesion_jax.errors import MAX_MESSAGE, InputError, first_line, join_some, shorten


def test_input_error_shortens_a_long_message():
    message = str(InputError("bad value: " + "\n" * 50_000 + "; allowed: 1"))
    assert len(message) == MAX_MESSAGE and "(100,023 characters)" in message
    assert message.startswith("bad value: \\n\\n") and message.endswith("\\n; allowed: 1")
    assert str(InputError("x" * MAX_MESSAGE)) == "x" * MAX_MESSAGE


@pytest.mark.parametrize("length", [49, 50, 51, 1000, 10**6])
def test_shortened_text_has_its_start_its_end_and_the_limit(length):
    short = shorten("s" + "x" * (length - 2) + "e", 50)
    assert len(short) == min(length, 50) and short[0] == "s" and short[-1] == "e"


def test_some_counts_the_texts_that_it_leaves_out():
    assert join_some(["a", "b"], 2) == "a, b"
    assert join_some(["a"] * 1002, 2, "; ") == "a; a and 1,000 more"


def test_first_line_ends_at_a_line_feed_alone():
    assert first_line(OSError("\n no file a\u2028b\x85c\rd \n second")) == "no file a\u2028b\x85c\rd"
