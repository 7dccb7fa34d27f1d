"""A web page and a JSON endpoint for a bundle."""

import contextlib
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from animesion_jax.errors import InputError
from animesion_jax.images import read_image

log = logging.getLogger("animesion_jax")


def serve(
    bundle: str,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    max_file_mb: float = 20.0,
    max_images: int = 16,
    top_k: int = 5,
    examples: Sequence[Path] = (),
) -> None:
    """Serves until it is interrupted. Compiles the model before it accepts requests.

    Args:
      bundle: file written by export.
      host: address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for every network.
      port: TCP port; 0 for any free one.
      max_file_mb: largest image file, in 2^20 bytes.
      max_images: most images in one request.
      top_k: characters shown for each image.
      examples: images to try, shown on the page.

    Raises:
      InputError: no such bundle, a limit out of range, an unavailable address or port, or a missing package.
    """
    try:
        import uvicorn

        from animesion_jax.serve.api import create_app
    except ImportError as error:
        raise InputError(f"serve needs {error.name}; install it: pip install 'animesion_jax[serve]'") from error
    from animesion_jax.serve.service import Service

    for path in examples:
        read_image(path)
    with _listen(host, port) as listening:
        service = Service(bundle, max_file_mb=max_file_mb, max_images=max_images, top_k=top_k)
        seconds = service.compile()
        app = create_app(service, examples)
        # From here on clients queue instead of being refused.
        listening.listen()
        host, port = listening.getsockname()[:2]
        log.info("compiled in %.1f s; open http://%s:%d (Ctrl+C stops it)", seconds, host, port)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address; called before compilation, so that a port in use fails at once."""
    if not 0 <= port < 2**16:
        raise InputError(f"--port is {port}; allowed: 0 to {2**16 - 1}, 0 for any free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as undo:
            listening = undo.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            undo.pop_all()
    except OSError as error:
        raise InputError(
            f"cannot listen on --host={host} --port={port} ({error.strerror}); allowed: an address of this machine and "
            "a free port, 0 for any"
        ) from error
    return listening
