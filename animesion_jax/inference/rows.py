"""Rows: the results of `predict` and `find` for a file.

A row is {"path", "unknown", "predictions"} for an image, {"path", "faces"} for a whole picture, or {"path", "error"}.
`find` gives faces without "unknown" and "predictions".
"""

from typing import Any

Row = dict[str, Any]
# Name in the output for characters that a bundle does not know.
UNKNOWN = "unknown"


def characters(row: Row) -> list[str]:
    """Returns the known characters on a file without an error, in the order of its heads, each once."""
    named = row.get("faces", [row])
    return list(dict.fromkeys(each["predictions"][0]["class"] for each in named if not each["unknown"]))


def has_heads(row: Row) -> bool:
    """Returns whether a file without an error shows a head; an image that is given as a head does."""
    return bool(row.get("faces", True))
