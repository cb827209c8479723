"""Standard output and standard error, set up so that printing never decides how a run ends."""

import contextlib
import logging
import os
import sys
from typing import Any


def prepare() -> None:
    """Open the standard streams that are closed, and replace characters that cannot be encoded.

    The next file to be opened would get a closed stream's number, and so what is printed to it. The stream
    that is opened instead cannot be written to, so that code that must print finds out.
    """
    while (opened := os.open(os.devnull, os.O_RDONLY)) <= 2:
        pass
    os.close(opened)
    streams = ("stdout", 1, "replace"), ("stderr", 2, "backslashreplace")
    for name, number, errors in streams:
        stream: Any = getattr(sys, name) or os.fdopen(number, "w", closefd=False)
        stream.reconfigure(errors=errors)
        setattr(sys, name, stream)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that is not there


def drop_what_cannot_be_written(*names: str) -> None:
    """Let no `print` to `stdout` or `stderr` fail for a closed pipe, a full disk or a lost terminal."""
    for name in names:
        setattr(sys, name, _Dropping(getattr(sys, name)))


class _Dropping:
    """A stream that becomes the null device when it cannot be written to."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _dropping(self):
        try:
            yield
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
