"""SIGTERM, Ctrl-C and a closed terminal: the points at which they stop a program."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


class Stopped(BaseException):
    """The program was asked to stop; the message names the signal and the run's state.

    It is no `Exception`, because the interrupted code has not failed.
    """

    def __init__(
        self, number: int, standing: str = "nothing is lost; start the same command again"
    ):
        """Take the signal's number, and the words about the state of the run."""
        super().__init__(f"stopped by {signal.Signals(number).name}: {standing}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in shells."""
        return 128 + self.number


class Stopping:
    """Take SIGTERM, Ctrl-C and a closed terminal's signal: end at once, or while `deferred` remember them.

    A signal can arrive anywhere, even in a library's callback, where an exception would be lost or worse. So
    an exception is raised only where `check` is called. A second Ctrl-C or SIGTERM ends the process, whatever
    it is doing. With several processes, one may get the signal. JAX passes it to the others, and all stop at
    the same call of `asked`; only a second Ctrl-C has a further effect there.
    """

    def __init__(self, *, take: bool = True):
        """Take the signals from now on; without `take` leave them to the program that uses this package."""
        self.number: int | None = None
        """The signal's number, if one came."""
        self._deferred = False
        self._several = False
        self._dispatches = 0
        if not take:
            return
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._take)

    def leave_to_jax(self) -> None:
        """Leave SIGTERM to JAX, which `processes.connect` has told to take it if several processes train."""
        self._several = True

    def _take(self, number, frame):
        self.number = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # it comes twice: from the shell, and from the terminal
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not self._deferred:
            stopped = Stopped(number)
            # stdout was being flushed when the signal came, or the terminal is gone.
            with contextlib.suppress(RuntimeError, OSError):
                sys.stdout.flush()
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), f"{stopped}\n".encode())
            os._exit(stopped.exit_code)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Only remember a signal while in this context.

        Raises:
          Stopped: at the end, if one came.
        """
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        self.check()

    def stopped(self) -> Stopped:
        """Return the exception for the signal that came."""
        return Stopped(self.number or signal.SIGTERM)

    def check(self) -> None:
        """Stop here if a signal came; with several processes none stops here alone, see `asked`.

        Raises:
          Stopped: a signal came.
        """
        if self.number is not None and not self._several:
            raise self.stopped()

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
