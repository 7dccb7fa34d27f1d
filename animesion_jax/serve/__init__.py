"""A web page and a JSON endpoint for a bundle."""

import logging
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from animesion_jax.errors import InputError, first_line
from animesion_jax.images import read_image
from animesion_jax.serve.signals import stop_signals
from animesion_jax.serve.temporary import temporary_folder

# Segments that need no quoting in a URL.
ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")

# Time that requests have to finish when the server stops.
SECONDS_TO_FINISH = 2

log = logging.getLogger("animesion_jax")


def serve(
    bundle: str,
    host: str,
    port: int,
    *,
    max_file_mb: float,
    max_images: int,
    top_k: int,
    examples: Sequence[Path],
    root_path: str,
    detector: str | None,
    min_confidence: float | None,
) -> None:
    """Serves until it is interrupted. Clients that connect while the model is compiled wait.

    Args:
      bundle: file written by export.
      host: address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for every network.
      port: TCP port; 0 for any free one.
      max_file_mb: largest image file, in 2^20 bytes.
      max_images: most images in one request.
      top_k: characters shown for each image or head.
      examples: images to try, shown on the page.
      root_path: URL path of the page behind a proxy, such as "/anime"; "" for none.
      detector, min_confidence: of the heads on whole pictures, as in `head_finder`; without a detector, every image is
        named as it is.

    Raises:
      InputError: no such bundle or detector, a limit out of range, an unavailable address or port, an invalid root
        path, no writable temporary folder, or a missing package.
      Stopped: after SIGTERM or SIGHUP.
    """
    if not ROOT_PATH.fullmatch(root_path):
        raise InputError(
            f"--root_path is '{root_path}'; allowed: letters, digits and -._~ after a slash, such as --root_path=/anime"
        )
    with stop_signals() as check_signals, temporary_folder(), _listen(host, port) as listening:
        import uvicorn

        from animesion_jax.serve.api import create_app
        from animesion_jax.serve.service import Service

        for path in examples:
            read_image(path)
        service = Service(
            bundle, max_file_mb=max_file_mb, max_images=max_images, top_k=top_k, detector=detector,
            min_confidence=min_confidence,
        )  # fmt: skip
        seconds = service.compile()
        app = create_app(service, examples, root_path.rstrip("/"))
        host, port = listening.getsockname()[:2]
        log.info("compiled in %.1f s; open http://%s:%d (Ctrl+C stops it)", seconds, host, port)
        # Every open page keeps a connection. Cut it when the server stops, without uvicorn's traceback.
        settings = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SECONDS_TO_FINISH)
        server = uvicorn.Server(settings)
        logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
        check_signals()
        server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Called before compilation, so that a port in use fails at once."""
    if not 0 <= port < 2**16:
        raise InputError(f"--port is {port}; allowed: 0 to {2**16 - 1}, 0 for any free one")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"cannot listen on --host={host} --port={port} ({first_line(error)}); allowed: an address of this machine "
            "and a free port, 0 for any"
        ) from error
