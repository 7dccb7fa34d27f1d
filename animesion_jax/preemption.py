"""SIGTERM, the notice that a machine is about to be taken away: save and go, within seconds.

Importing this loads no JAX, so that a process can be told to stop while it still does.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

# After this long the process ends without its main thread, if that is stuck in compiling and nothing would be lost.
PATIENCE_SECONDS = 5.0
NOTHING_LOST = "stopped by SIGTERM; nothing is lost, the same command goes on"

log = logging.getLogger(__name__)


class Stopped(BaseException):
    """The program was asked to stop and has saved; no Exception, so that nobody takes it for a fault and goes on."""


class Preemption:
    """Tells a training loop when to save and stop; while it is entered, which only a main thread can, it gets SIGTERM.

    Attributes:
      unsaved: whether something would be lost that is not on disk or on its way there; the loop keeps it.
      finish: what to call before the process ends; blocks until what was on its way is on disk.
    """

    def __init__(self, *, many_processes: bool = False):
        """With many processes JAX gets the signal, passes it on to all, and has them stop after the same step."""
        self.unsaved = False
        self.finish: Callable[[], None] = lambda: None
        self._asked = False
        self._entered = False
        self._many = many_processes

    def __enter__(self) -> "Preemption":
        self._entered = True
        if not self._many:
            self._handler = signal.signal(signal.SIGTERM, self._ask)
            # Python runs a handler between two bytecodes only; the socket is written to at once.
            self._notices, self._notify = socket.socketpair()
            self._notify.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._notify.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(self._notices,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._entered = False
        if not self._many:
            signal.set_wakeup_fd(self._wakeup)
            signal.signal(signal.SIGTERM, self._handler)
            # Ends the thread.
            self._notify.close()

    def check(self) -> None:
        """Raises Stopped if asked to stop; for places where everything is saved."""
        if self._asked:
            raise Stopped(NOTHING_LOST)

    def requested(self, step: int) -> bool:
        """Returns whether to save and stop after `step` updates; every process calls it after every step."""
        if self._many:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self._asked

    def _ask(self, *_) -> None:
        self._asked = True
        if not self.unsaved:
            self.check()

    def _watch(self, notices: socket.socket) -> None:
        with notices:
            while signals := notices.recv(16):
                if signal.SIGTERM in signals:
                    time.sleep(PATIENCE_SECONDS)
                    # Unless the main thread has left by itself meanwhile.
                    if self._entered and not self.unsaved:
                        self.finish()
                        log.warning(NOTHING_LOST)
                        os._exit(0)
