"""The error for what a user can mend."""

import re

# Line ends, terminal escapes and bytes that are no text, which names of files and inside of files may have.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Of what a file says an error shows as many characters.
SHOWN = 300


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that names the value, what is allowed and the next step. `main` prints it
    without a traceback; any other exception is a fault of the program and keeps its traceback.
    """

    def __init__(self, message: str):
        super().__init__(escape(message))


def escape(text: str) -> str:
    r"""Returns a text as one line that can be printed anywhere: "a\nb" for an "a" and a "b" on two lines."""
    return UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], text)


def encodable(text: str) -> str:
    """Returns a text that UTF-8 can hold: bytes of a file's name that are no text become backslashes and digits."""
    return text.encode(errors="backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """Returns the first non-empty line of an error's message, or its type's name when it has none; 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[0] if len(lines[0]) <= SHOWN else f"{lines[0][:SHOWN]}..."


class Stopped(BaseException):
    """The program was asked to stop and has saved; no Exception, so that nobody takes it for a fault and goes on."""
