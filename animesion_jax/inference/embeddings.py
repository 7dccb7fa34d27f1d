"""Files of embeddings: NumPy's npz, or Parquet."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from animesion_jax.errors import InputError, encodable
from animesion_jax.files import local_path, replacing


def _save_npz(path: Path, files: Sequence[str], embeddings: np.ndarray) -> None:
    with path.open("wb") as stream:
        np.savez(stream, path=np.asarray(files, dtype=str), embedding=embeddings)


def _save_parquet(path: Path, files: Sequence[str], embeddings: np.ndarray) -> None:
    import pyarrow.parquet

    values = pyarrow.FixedSizeListArray.from_arrays(embeddings.ravel(), embeddings.shape[1])
    table = pyarrow.table({"path": pyarrow.array(files, pyarrow.string()), "embedding": values})
    pyarrow.parquet.write_table(table, path)


FORMATS: dict[str, Callable[[Path, Sequence[str], np.ndarray], None]] = {".npz": _save_npz, ".parquet": _save_parquet}


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


def save_embeddings(path: Path, files: Sequence[str], embeddings: np.ndarray) -> None:
    """Writes "path" (n strings) and "embedding" (n, features) float32 atomically to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fresh:
        FORMATS[path.suffix.lower()](fresh, [encodable(name) for name in files], embeddings)
