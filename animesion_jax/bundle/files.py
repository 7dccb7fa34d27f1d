"""Reads bundles from local files and addresses, and writes them to local files and gs://."""

import hashlib
import reprlib
from typing import Any, BinaryIO

import flax.serialization
from etils import epath

from animesion_jax import hub
from animesion_jax.bundle.bundle import Bundle, build_bundle
from animesion_jax.bundle.checks import is_exactly
from animesion_jax.bundle.msgpack_reader import read_tree
from animesion_jax.errors import InputError, command, first_line
from animesion_jax.files import expand_home, size, write_whole

FORMAT = "animesion"
VERSION = 1
ENDING = ".msgpack"
ONNX_ENDING = ".onnx"


def is_onnx(path: str) -> bool:
    """Returns whether a path or an address ends in *.onnx."""
    name = hub.file_name(path) if hub.is_address(path) else path
    return name.lower().endswith(ONNX_ENDING)


def write_bundle(tree: dict[str, Any], output: str) -> epath.Path:
    """Writes a bundle's tree atomically to a file, local or gs://; returns its path."""
    return write_whole(output, [flax.serialization.msgpack_serialize(tree)])


def load_bundle(path: str) -> Bundle:
    """Returns the bundle in a file. Runs no code from it, and takes at most a few times the file's size in memory.

    Args:
      path: a local file, gs://, https://, http:// or hf://OWNER/REPO[@REVISION][/FILE]. Files behind the last three are
        downloaded on first use.

    Raises:
      InputError: no such file, not a bundle, truncated, of another version, or inconsistent; or a failed download.
    """
    return build_bundle(path, _read_file(path))


def extend_bundle(path: str, output: str, **parts: dict[str, Any]) -> epath.Path:
    """Writes a copy of the bundle at `path` with new parts to `output`; returns its path.

    Parts are "calibration", "enrolled" and "crops".
    """
    tree = _read_file(path) | parts
    build_bundle(path, tree)
    return write_bundle(tree, output)


class _Hashing:
    """A binary stream that computes the SHA-256 of what is read."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._hash = stream, hashlib.sha256()

    def read(self, length: int = -1) -> bytes:
        data = self._stream.read(length)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _read_file(path: str) -> dict[str, Any]:
    """Returns the tree in a bundle's file, with the file's origin if it is remote; checks format and version only."""
    hub.check_scheme(path)
    if is_onnx(path):
        raise InputError(
            f"{path} is an ONNX file, which only predict, find and animesion_jax.load read; give the msgpack bundle "
            "that it was exported from"
        )
    origin, local = {}, path
    if path.startswith("gs://"):
        origin = {"address": path}
    elif hub.is_address(path):
        local, origin = hub.fetch(path, [ENDING])
    file = epath.Path(expand_home(local))
    if not file.is_file():
        workdir = file if file.is_dir() else "RUN"
        raise InputError(f"no bundle at {file}; write one: {command('export', workdir=workdir, output='mine.msgpack')}")
    with file.open("rb") as stream:
        try:
            reader = _Hashing(stream) if origin else stream
            tree = read_tree(reader, size(file))
            if not isinstance(tree, dict) or not is_exactly(tree.get("format"), FORMAT):
                raise ValueError(f"it does not declare the format '{FORMAT}'")
            if not is_exactly(tree.get("version"), VERSION):
                version = reprlib.repr(tree.get("version"))
                raise ValueError(f"it has bundle version {version}, and this program reads {VERSION}")
        except Exception as error:  # msgpack raises a dozen types on damaged bytes
            where, fix = file, "export it again, with --format=msgpack"
            if local != path:
                where, fix = f"{path}, downloaded to {file},", "give another address, or delete that file and try again"
            raise InputError(f"{where} is damaged or not a bundle ({first_line(error)}); {fix}") from error
    return tree | ({"origin": origin | {"sha256": reader.hexdigest()}} if origin else {})
