"""Sidecar files: text files with the characters on each image as tags, for other programs."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from animesion_jax.errors import encodable
from animesion_jax.files import replacing
from animesion_jax.inference.named_files import Below, RefusedName, check_distinct, create_if_absent, writing
from animesion_jax.inference.rows import Row, characters

# Templates of a tag, by format. Hydrus splits a tag at its first colon into namespace and name; the name may have more.
FORMATS = {"tags": "{}", "hydrus": "character:{}"}


class Sidecars:
    """The text files of images: IMAGE.txt, as in face.jpg.txt, beside each image or below a folder.

    Attributes:
      counts: numbers of files "written", "emptied", and "kept", which are existing files with other content.
    """

    def __init__(self, files: Sequence[Path], given: Sequence[str], form: str, folder: str | None, overwrite: bool):
        """Chooses the names of the text files.

        Args:
          files: the images.
          given: the files and folders that the user gave.
          form: a key of `FORMATS`.
          folder: folder to write to, in the images' subfolders of `given`; None to write beside each image.
          overwrite: whether to replace existing files.

        Raises:
          InputError: two images have the same text file, or the folder is an address.
        """
        self.counts: Counter[str] = Counter()
        self._form, self._overwrite = FORMATS[form], overwrite
        self._below = Below(folder, given) if folder else None
        images = {os.path.abspath(file) for file in files}
        check_distinct({image: self._target(image) for image in images}, "text file", "no --sidecar_to")

    @property
    def summary(self) -> str:
        """The counts in words."""
        counts = self.counts
        emptied = f"{counts['emptied']} without a known character emptied, " if counts["emptied"] else ""
        return f"{counts['written']} written, {emptied}{counts['kept']} existing ones with other content kept"

    def write(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Writes the text file of each row and then yields the row.

        An image without a known character gets no text file; with `overwrite`, an existing one becomes empty. If a name
        is too long, the row becomes {"path", "error"}.
        """
        for row in rows:
            if "error" not in row:
                try:
                    self._write(Path(self._target(row["path"])), self._content(characters(row)))
                except RefusedName as error:
                    row = {"path": row["path"], "error": str(error)}
            yield row

    def _target(self, image: str) -> str:
        return f"{self._below.path(image) if self._below else image}.txt"

    def _content(self, names: Sequence[str]) -> bytes:
        # Hydrus and others split lines at every line separator of Unicode.
        tags = [" ".join(encodable(name).splitlines()).strip() for name in names]
        return "".join(f"{self._form.format(tag)}\n" for tag in tags if tag).encode()

    def _write(self, target: Path, content: bytes) -> None:
        with writing(target, "--sidecar_to=FOLDER"):
            if not content and not os.path.lexists(target):
                return
            if create_if_absent(target, lambda fresh: fresh.write_bytes(content)):
                self.counts["written"] += 1
                return
            if target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content:
                return
            if not self._overwrite or target.is_dir():
                self.counts["kept"] += 1
                return
            with replacing(target) as fresh:
                fresh.write_bytes(content)
            self.counts["written" if content else "emptied"] += 1
