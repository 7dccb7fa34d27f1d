"""SIGTERM, the notice that a machine is about to be taken away: save and go, within seconds.

Importing this loads no JAX, so that a process can be told to stop while it still does.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from animesion_jax.errors import Stopped

# After this long the process ends without its main thread, if that is stuck in compiling and nothing would be lost.
PATIENCE_SECONDS = 5.0
NOTHING_LOST = "stopped by SIGTERM; nothing is lost, the same command goes on"


class Preemption:
    """Tells a training loop when to save and stop; while it is entered, which only a main thread can, it gets SIGTERM.

    With many processes the notice that one of them gets stops all after the same update, or batch of an evaluation.

    Attributes:
      unsaved: whether something would be lost that is not on disk or on its way there; the loop keeps it.
    """

    def __init__(self, *, many_processes: bool = False):
        self.unsaved = False
        self._finish: Callable[[], None] = lambda: None
        self._asked = False
        self._entered = False
        self._many = many_processes
        self._agreement = None

    def __enter__(self) -> "Preemption":
        self._entered = True
        self._handler = signal.signal(signal.SIGTERM, self._ask)
        # Python runs a handler between two bytecodes only; the socket is written to at once.
        self._notices, self._notify = socket.socketpair()
        self._notify.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._notify.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(self._notices,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._entered = False
        signal.set_wakeup_fd(self._wakeup)
        signal.signal(signal.SIGTERM, self._handler)
        # Ends the thread.
        self._notify.close()

    @contextlib.contextmanager
    def guarding(self, finish: Callable[[], None]) -> Iterator[None]:
        """Has `finish`, which blocks until all that was to be saved is on disk, called before the process ends."""
        self._finish = finish
        try:
            yield
        finally:
            self.unsaved = False
            self._finish = lambda: None

    def requested(self) -> bool:
        """Returns whether to save and stop; of many processes every one has to call it as often as the others."""
        if not self._many:
            return self._asked
        if self._agreement is None:
            from animesion_jax.distributed import Agreement

            self._agreement = Agreement()
        return self._agreement.say(self._asked)

    def check(self) -> None:
        """Raises Stopped if `requested`; for places where everything is saved."""
        if self.requested():
            raise Stopped(NOTHING_LOST)

    def _ask(self, *_) -> None:
        self._asked = True
        # Of many processes none leaves the others waiting.
        if not self._many and not self.unsaved:
            raise Stopped(NOTHING_LOST)

    def _watch(self, notices: socket.socket) -> None:
        with notices:
            while signals := notices.recv(16):
                if signal.SIGTERM in signals and not self._many:
                    time.sleep(PATIENCE_SECONDS)
                    # Unless the main thread has left by itself meanwhile.
                    if self._entered and not self.unsaved:
                        self._leave()

    def _leave(self) -> None:
        status, message = 0, NOTHING_LOST
        try:
            self._finish()
        except Exception as error:
            status, message = 2, f"error: {error}"
        # Past Python's own buffers, whose locks the main thread may hold.
        os.write(sys.__stderr__.fileno(), f"animesion: {message}\n".encode())
        os._exit(status)
