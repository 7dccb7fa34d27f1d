"""Sidecar files: text files with the character of each image as a tag, for other programs."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from animesion_jax.errors import InputError, encodable, join_some
from animesion_jax.files import expand_home, local_path, replacing
from animesion_jax.inference.named_files import RefusedName, create_if_absent, writing
from animesion_jax.inference.writers import Row

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
        self._folder = folder and local_path(folder)
        self._roots = [os.path.join(os.path.abspath(expand_home(path)), "") for path in given]
        images = {os.path.abspath(file) for file in files}
        targets = {image: self._target(image) for image in images}
        target, times = Counter(targets.values()).most_common(1)[0]
        if times > 1:
            same = join_some(sorted(image for image in images if targets[image] == target))
            raise InputError(f"{same} have the same text file {target}; allowed: different names, or no --sidecar_to")

    @property
    def summary(self) -> str:
        """The counts in words."""
        counts = self.counts
        emptied = f"{counts['emptied']} of unknown characters emptied, " if counts["emptied"] else ""
        return f"{counts['written']} written, {emptied}{counts['kept']} existing ones with other content kept"

    def write(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Writes the text file of each row and then yields the row.

        An image of an unknown character gets no text file; with `overwrite`, an existing one becomes empty. If a name
        is too long, the row becomes {"path", "error"}.
        """
        for row in rows:
            if "error" not in row:
                name = "" if row["unknown"] else row["predictions"][0]["class"]
                try:
                    self._write(Path(self._target(row["path"])), self._content(name))
                except RefusedName as error:
                    row = {"path": row["path"], "error": str(error)}
            yield row

    def _target(self, image: str) -> str:
        if not self._folder:
            return f"{image}.txt"
        whole = os.path.abspath(image)
        root = next((root for root in self._roots if whole.startswith(root)), os.path.join(os.path.dirname(whole), ""))
        return os.path.join(self._folder, f"{whole.removeprefix(root)}.txt")

    def _content(self, name: str) -> bytes:
        # Hydrus and others split lines at every line separator of Unicode.
        tag = " ".join(encodable(name).splitlines()).strip()
        return f"{self._form.format(tag)}\n".encode() if tag else b""

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
