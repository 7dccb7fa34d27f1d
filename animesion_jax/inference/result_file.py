"""A file of predictions that a second start goes on with where the first was stopped."""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from animesion_jax.errors import InputError, encodable
from animesion_jax.files import replacing
from animesion_jax.inference.writers import CSV_HEADER, Row, Writer, write_csv_rows, write_jsonl

FORMATS: dict[str, Writer] = {".csv": write_csv_rows, ".jsonl": write_jsonl}
# Beside the file while it is not whole: what its rows depend on.
UNFINISHED = ".unfinished.json"


class ResultFile:
    """A CSV or JSONL file of predictions; rows are in it as soon as they are written.

    Attributes:
      path: the file.
      done: the images whose rows an earlier start has written, as `errors.encodable` writes them.
    """

    def __init__(self, path: str, settings: dict[str, Any]):
        """Begins a file, or finds out how far it is.

        Args:
          path: local file, *.csv or *.jsonl.
          settings: what the rows, and what is done along with them, depend on besides the images, JSON.

        Raises:
          InputError: another suffix, a file that is whole, or one begun with other settings.
        """
        self.path = Path(path).expanduser()
        self._unfinished = self.path.with_name(self.path.name + UNFINISHED)
        self._write = FORMATS.get(self.path.suffix.lower())
        if not self._write:
            raise InputError(f"--output={path}: allowed: a file named {' or '.join(f'*{name}' for name in FORMATS)}")
        if self.path.exists() and not self._unfinished.exists():
            raise InputError(f"--output={path} is there already, and whole; allowed: another name, or remove it first")
        self._check_settings(settings)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines, self.done = self._whole_lines() if self.path.exists() else (self._header(), set())
        self._unfinished.write_text(json.dumps(settings))
        with replacing(self.path) as fresh:
            fresh.write_text(lines, encoding="utf-8", newline="")

    def write(self, rows: Iterable[Row], files: Sequence[Path]) -> None:
        """Appends the rows of the files, the rest; then the file is whole."""
        with self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            self._write(rows, stream, files)
        self._unfinished.unlink()

    def _check_settings(self, settings: dict[str, Any]) -> None:
        if not self._unfinished.exists():
            return
        try:
            before = json.loads(self._unfinished.read_text())
        except ValueError:
            before = {}
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            raise InputError(
                f"--output={self.path} was begun with another {' and '.join(changed)}; allowed: the same, another "
                f"name, or remove it and {self._unfinished}"
            )

    def _header(self) -> str:
        return ",".join(CSV_HEADER) + "\n" if self._write is write_csv_rows else ""

    def _whole_lines(self) -> tuple[str, set[str]]:
        """Returns the text of the images that are whole for sure, all but the last one, and their paths."""
        with self.path.open(encoding="utf-8", errors="replace", newline="") as stream:
            text = stream.read()
        if self._write is write_jsonl:
            lines = text.splitlines(keepends=True)[:-1]
            return "".join(lines), {encodable(json.loads(line)["path"]) for line in lines}
        images = [
            list(lines) for _, lines in itertools.groupby(csv.reader(text.splitlines(True)), lambda line: line[:1])
        ]
        kept = list(itertools.chain.from_iterable(images[:-1] if len(images) > 1 else [[list(CSV_HEADER)]]))
        whole = io.StringIO(newline="")
        csv.writer(whole, lineterminator="\n").writerows(kept)
        return whole.getvalue(), {encodable(line[0]) for line in kept[1:]}
