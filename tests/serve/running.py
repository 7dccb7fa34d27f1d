"""A small service, and its application in this process."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import flax.serialization
import numpy as np
from PIL import Image

from animesion_jax.serve.temporary import temporary_folder
from tests.conftest import ROOT
from tests.hostile_seeds import CALIBRATION, bundle_tree

NAME = '<b>ame & "co"</b>'


def write_bundle(path: Path) -> Path:
    """Writes a small model whose probabilities are all 0.5, below the threshold; returns `path`."""
    tree = bundle_tree() | {"classes": [NAME, "あかり"], "calibration": CALIBRATION}
    path.write_bytes(flax.serialization.msgpack_serialize(tree))
    return path


def write_face(path: Path) -> Path:
    """Writes an image; returns `path`."""
    pixels = np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def compiled_service(bundle: Path, detector: str | None = None):
    """Returns a compiled service with small limits."""
    from animesion_jax.serve.service import Service

    service = Service(str(bundle), max_file_mb=0.1, max_images=3, top_k=5, detector=detector)
    service.compile()
    return service


@contextlib.contextmanager
def running(service, examples: Sequence[Path] = (), root_path: str = "") -> Iterator[tuple]:
    """Yields (a client of the service's application, the folder of its temporary files)."""
    with temporary_folder() as folder:
        import gradio.routes
        from fastapi.testclient import TestClient

        from animesion_jax.serve.api import create_app

        # Gradio read it when it was imported, maybe for another test.
        with (
            mock.patch.object(gradio.routes, "DEFAULT_TEMP_DIR", folder),
            TestClient(create_app(service, examples, root_path)) as client,
        ):
            yield client, Path(folder)


@contextlib.contextmanager
def server_process(bundle: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """Yields (process, address) of `serve` on a free port."""
    command = [sys.executable, "-m", "animesion_jax.main", "serve", f"--bundle={bundle}", "--port=0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
        urls = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in iter(server.stderr.readline, ""))
        try:
            yield server, next(found.group() for found in urls if found)
        finally:
            server.terminate()
