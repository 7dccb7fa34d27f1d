"""The signals that stop the server."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from animesion_jax.errors import Stopped


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], None]]:
    """Raises Stopped at SIGTERM, and at SIGHUP unless the process ignores it; by default they skip all cleanup.

    The running code may swallow Stopped, for example in a callback of the garbage collector. So this yields a function
    that raises Stopped if a signal came before, and calls it at the end. Call it in the main thread.
    """
    received = False

    def check() -> None:
        if received:
            raise Stopped("stopped by a signal")

    def stop(*_) -> None:
        nonlocal received
        received = True
        check()

    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGTERM, stop)
    if handlers[signal.SIGHUP] != signal.SIG_IGN:
        # While uvicorn runs, it handles SIGTERM instead, not SIGHUP. It raises SIGTERM again when it has stopped.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield check
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
        check()
