"""SIGTERM, Ctrl-C and a terminal that is closed: where a program lets itself be stopped."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator


class Stopped(BaseException):
    """The program was asked to stop; says by which signal, and how things stand.

    No `Exception`, for it is no failure of what it interrupts.
    """

    def __init__(
        self, number: int, standing: str = "nothing is lost; start the same command again"
    ):
        """Take the signal's number, and what to tell of the state of things."""
        super().__init__(f"stopped by {signal.Signals(number).name}: {standing}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells have it."""
        return 128 + self.number


class Stopping:
    """Take SIGTERM, Ctrl-C and a closed terminal's signal: end at once, or while `deferred` remember them.

    A signal finds the process anywhere, in a library's callback too, where an exception would be lost
    or worse; so none is raised but where `check` is called. A second Ctrl-C or SIGTERM ends the process,
    whatever it does. Of several processes one may get the signal; JAX tells it to the others, and all are
    stopped where all ask; there only a second Ctrl-C does more.
    """

    def __init__(self, *, take: bool = True):
        """Take the signals from now on; without `take` leave them to the program that uses this package."""
        self.number: int | None = None
        """Of the signal that came, if one did."""
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
        """Leave SIGTERM to JAX, which `processes.connect` has told to take it for several that train."""
        self._several = True

    def _take(self, number, frame):
        self.number = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # it comes twice: of the shell, and of the terminal
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not self._deferred:
            stopped = Stopped(number)
            # It was flushing when the signal came, or the terminal is gone.
            with contextlib.suppress(RuntimeError, OSError):
                sys.stdout.flush()
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), f"{stopped}\n".encode())
            os._exit(stopped.exit_code)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Only remember a signal for the time being.

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
        """Stop here if a signal came; of several processes none does so alone, see `asked`.

        Raises:
          Stopped: it came.
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
