"""The rows of metrics.jsonl."""

import json
import logging
from typing import Any

from etils import epath

from animesion_jax.files import expand_home
from animesion_jax.workdir.names import ROWS_FILE

log = logging.getLogger(__name__)


def read_rows(workdir: str) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl in order; empty without such a file.

    Skips an incomplete last line, which a kill leaves; logs and skips other damaged lines.
    """
    path = epath.Path(expand_home(workdir)) / ROWS_FILE
    lines = path.read_bytes().decode(errors="replace").split("\n") if path.exists() else []
    if lines and not lines[-1]:
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or not isinstance(row.get("step"), int) or not {"epoch", "split"} <= set(row):
                raise ValueError("not a row")
            rows.append(row)
        except ValueError:
            if number < len(lines):
                log.warning("%s line %d is damaged and left out: %.80r", path, number, line)
    return rows
