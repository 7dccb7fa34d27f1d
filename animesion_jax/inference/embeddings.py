"""Embeddings of images or of the heads on them, and files of embeddings: NumPy's npz, or Parquet."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from animesion_jax.errors import InputError, encodable
from animesion_jax.files import local_path, replacing
from animesion_jax.inference.heads import HeadFinder
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.preprocessing import Box

Columns = dict[str, np.ndarray]
Heads = list[tuple[Box, float]]


def embed(
    recognizer: Recognizer, files: Sequence[Path], finder: HeadFinder | None = None
) -> Iterator[tuple[Path, Heads | InputError | None, list[np.ndarray]]]:
    """Yields each file in order with its (features,) float32 embeddings.

    Args:
      recognizer: of a bundle.
      files: images.
      finder: from `head_finder`, for an embedding of each head; None for one of each image.

    Yields:
      The file; the box and confidence of each head, None without a finder, or the error of reading it; the embeddings.
    """
    if finder:
        yield from recognizer.embed_pictures(files, finder)
        return
    for file, embedding in recognizer.embed_files(files):
        if isinstance(embedding, InputError):
            yield file, embedding, []
        else:
            yield file, None, [embedding]


def _save_npz(path: Path, columns: Columns) -> None:
    with path.open("wb") as stream:
        np.savez(stream, **columns)


def _save_parquet(path: Path, columns: Columns) -> None:
    import pyarrow.parquet

    table = {}
    for name, values in columns.items():
        flat = pyarrow.array(values.ravel())
        table[name] = flat if values.ndim == 1 else pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    pyarrow.parquet.write_table(pyarrow.table(table), path)


FORMATS: dict[str, Callable[[Path, Columns], None]] = {".npz": _save_npz, ".parquet": _save_parquet}


def check_output(output: str) -> Path:
    """Returns the path of a file to write.

    Raises:
      InputError: a format outside `FORMATS`, or an address.
      ModuleNotFoundError: the extra [parquet] is missing.
    """
    path = local_path(output)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"--output={output}: allowed: a file named {' or '.join(f'*{suffix}' for suffix in FORMATS)}")
    if path.suffix.lower() == ".parquet":
        # Fail before the images are read.
        import pyarrow.parquet  # noqa: F401
    return path


def save_embeddings(path: Path, files: Sequence[str], embeddings: np.ndarray, heads: Heads | None = None) -> None:
    """Writes a row for each embedding atomically to a file.

    The columns are "path" (strings), "embedding" ((n, features) float32) and, of heads, "box" ((n, 4) int32: left, top,
    right, bottom in pixels) and "confidence" ((n,) float32).

    Args:
      path: from `check_output`.
      files: n paths; a picture of several heads is repeated.
      embeddings: (n, features) float32.
      heads: n boxes with the detector's confidence; None for embeddings of whole images.
    """
    columns = {"path": np.asarray([encodable(name) for name in files], dtype=str)}
    if heads is not None:
        columns["box"] = np.asarray([box for box, _ in heads], np.int32).reshape(-1, 4)
        columns["confidence"] = np.asarray([confidence for _, confidence in heads], np.float32)
    columns["embedding"] = embeddings
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh:
        FORMATS[path.suffix.lower()](fresh, columns)
