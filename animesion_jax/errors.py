"""Errors that the user can fix, and text that is safe to print on one line."""

import re
import shlex
from collections.abc import Sequence

# Line ends, terminal escapes and undecodable bytes, which file names and contents may have.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Longest excerpt of another error's text in an error message, in characters.
MAX_EXCERPT = 300
# Longest error message, in characters; it fits on a screen.
MAX_MESSAGE = 2000

# The packages that an extra of setup.py brings, by their names in Python.
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": (
        "absl", "clu", "matplotlib", "ml_collections", "optax", "orbax", "psutil", "tensorboard", "tensorflow",
        "tensorflow_datasets",
    ),
    # gradio and the packages of its server.
    "serve": ("gradio", "fastapi", "starlette", "uvicorn"),
    "detect": ("cv2", "onnxruntime"),
    "onnx": ("onnx", "onnxruntime"),
    "heic": ("pillow_heif",),
    "parquet": ("pyarrow",),
    "gcs": ("gcsfs",),
}  # fmt: skip


class InputError(ValueError):
    """An input is invalid: a flag, a config field, a path or the content of a file.

    The message is one line with the value, the allowed values and the next step, at most `MAX_MESSAGE` characters.
    `main` prints it without a traceback. Any other exception is a bug and keeps its traceback.
    """

    def __init__(self, message: str):
        super().__init__(shorten(escape(message), MAX_MESSAGE))


def escape(text: str) -> str:
    r"""Returns a text as one printable line: control characters become escapes such as "\n"."""
    return UNPRINTABLE.sub(lambda found: ascii(found.group())[1:-1], text)


def shorten(text: str, limit: int) -> str:
    """Returns the text, without its middle if it is longer than `limit` (50 or more) characters."""
    if len(text) <= limit:
        return text
    mark = f" ... ({len(text):,} characters) ... "
    start = (limit - len(mark)) * 2 // 3
    return text[:start] + mark + text[len(text) - (limit - len(mark) - start) :]


def join_some(texts: Sequence[str], limit: int = 10, separator: str = ", ") -> str:
    """Returns the first `limit` texts and the number of the others: "a, b and 3 more"."""
    more = len(texts) - limit
    return separator.join(texts[:limit]) + (f" and {more:,} more" if more > 0 else "")


def command(name: str, *arguments: str, **flags: object) -> str:
    """Returns a command of this program for a shell, with quotes: `command("calibrate", bundle="a b.msgpack")`.

    Args:
      name: the command; "" for train.
      arguments: positional arguments.
      flags: values by flag, in order; True for a flag without a value. A placeholder such as RUN is not quoted.
    """
    words = [f"--{flag}" if value is True else f"--{flag}={shlex.quote(str(value))}" for flag, value in flags.items()]
    parts = ["animesion", name, *words, *map(shlex.quote, arguments)]
    return " ".join(filter(None, parts))


def install(extra: str) -> str:
    """Returns the command that installs an extra of setup.py."""
    return f"pip install 'animesion-jax[{extra}]'"


def missing_extra(error: BaseException | None) -> str | None:
    """Returns one line with the extra that brings the package whose import failed; None for any other error.

    Args:
      error: the error, or one that it caused: fsspec raises its own ImportError if gcsfs is missing.
    """
    while error:
        for extra, packages in EXTRAS.items():
            if isinstance(error, ModuleNotFoundError) and error.name in packages:
                return f"this needs the package {error.name}; install it: {install(extra)}"
        error = error.__cause__
    return None


def encodable(text: str) -> str:
    """Returns a text that UTF-8 can encode: undecodable bytes of a file name become escapes such as "\\udcff"."""
    return text.encode(errors="backslashreplace").decode()


def first_line(error: BaseException) -> str:
    """Returns the first non-empty line of an error's message, or its type; at most `MAX_EXCERPT` characters."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[0] if len(lines[0]) <= MAX_EXCERPT else f"{lines[0][:MAX_EXCERPT]}..."


class Stopped(BaseException):
    """The program stops early, after saving. Not an Exception, so that handlers of errors do not catch it."""
