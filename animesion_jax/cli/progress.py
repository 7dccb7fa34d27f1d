"""The progress bar of commands that write a row for each file."""

import sys
from collections.abc import Iterable
from typing import TypeVar

Row = TypeVar("Row")

# Kinds of files in a summary.
NO_HEAD, ERROR = "without a head", "with an error"


def show_progress(rows: Iterable[Row], done: int, total: int, description: str, to_file: bool) -> Iterable[Row]:
    """Returns the rows; a bar on stderr counts them.

    Args:
      rows: of the files that are left.
      done: number of files that have a row already.
      total: number of all files.
      description: of the work.
      to_file: whether the rows go to a file. Rows on a terminal show the progress; a bar would be drawn among them.
    """
    from tqdm import tqdm

    disable = None if to_file or not sys.stdout.isatty() else True
    return tqdm(rows, initial=done, total=total, unit="img", desc=description, disable=disable, leave=False)
