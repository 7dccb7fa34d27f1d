"""The flag that SIGTERM sets before a preemptible machine stops: the loop then saves and stops.

Importing this module loads no JAX, so that it can catch SIGTERM while JAX loads.
"""

import signal

from animesion_jax.errors import Stopped


class Preemption:
    """Tells a training loop when to save and stop; as a context manager in the main thread, it catches SIGTERM.

    With many processes, a signal to any of them stops all of them after the same update or evaluation batch.
    """

    def __init__(self, *, many_processes: bool = False):
        self._received = False
        self._many = many_processes
        self._agreement = None

    def __enter__(self) -> "Preemption":
        self._handler = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGTERM, self._handler)

    def _receive(self, *_) -> None:
        self._received = True

    def requested(self) -> bool:
        """Returns whether to save and stop. With many processes, all must call it equally often."""
        if not self._many:
            return self._received
        if self._agreement is None:
            from animesion_jax.distributed import Agreement

            self._agreement = Agreement()
        return self._agreement.vote(self._received)

    def check(self) -> None:
        """Raises Stopped if `requested`; call it where everything is saved."""
        if self.requested():
            raise Stopped("stopped by SIGTERM; nothing is lost, the same command resumes")
