"""The error for what a user can mend."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line that names the value, what is allowed and the next step. `main` prints it
    without a traceback; any other exception is a fault of the program and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Returns the first non-empty line of an error's message, or its type's name when it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
