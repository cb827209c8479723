"""SIGTERM and Ctrl-C: where a program lets itself be stopped."""

import contextlib
import os
import signal
from collections.abc import Iterator


class Stopped(BaseException):
    """The program was asked to stop; says by which signal, and how things stand.

    No `Exception`, for it may be raised anywhere, and is no failure of what it interrupts.
    """

    def __init__(self, number: int, standing: str = "nothing was under way that could be lost"):
        """Take the signal's number, and what to tell of the state of things."""
        super().__init__(f"stopped by {signal.Signals(number).name}: {standing}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it."""
        return 128 + self.number


class Stopping:
    """Take SIGTERM and Ctrl-C: raise `Stopped` at once, or while `deferred` remember them.

    A second signal ends the process, whatever it does. Of several processes one may get the signal;
    JAX tells it to the others, and all are stopped where all ask; there only a second Ctrl-C does more.
    """

    def __init__(self, *, several: bool):
        """Take the signals from now on; `several` says whether this process is one of several."""
        self.number: int | None = None
        """Of the signal that came, if one did."""
        self._deferred = several
        self._several = several
        self._dispatches = 0
        signal.signal(signal.SIGINT, self._take)
        if not several:  # else JAX takes it
            signal.signal(signal.SIGTERM, self._take)

    def _take(self, number, frame):
        self.number = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not self._deferred:
            raise Stopped(number)

    @contextlib.contextmanager
    def deferred(self, deferred: bool = True) -> Iterator[None]:
        """Only remember a signal for the time being, or within that, `deferred(False)`, do not.

        Raises:
          Stopped: where it is no longer deferred, and a signal came before.
        """
        before, self._deferred = self._deferred, deferred or self._several
        try:
            self._raise_if_due()
            yield
        finally:
            self._deferred = before
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self.number is not None and not self._deferred:
            raise Stopped(self.number)

    def asked(self) -> bool:
        """Return whether to stop before the next dispatch; every process asks before each."""
        if self._several:
            from jax.experimental import multihost_utils

            self._dispatches += 1
            if multihost_utils.reached_preemption_sync_point(self._dispatches):
                self.number = self.number or signal.SIGTERM
                return True
            return False
        return self.number is not None
