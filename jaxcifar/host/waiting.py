"""What the program is doing while nothing else is shown: on a terminal, a line that counts seconds."""

import contextlib
import threading
import time
from collections.abc import Iterator

from tqdm import tqdm

from jaxcifar.host import output

_EVERY_SECONDS = 0.25
_TOLD_AFTER_SECONDS = 1
"""Without a terminal, a line is printed once for work that takes longer."""


class _Waiting:
    def __init__(self):
        self._changed = threading.Condition()
        self._words = ""
        self._began = 0.0
        self._told = False
        self._line: tqdm | None = None
        self._thread: threading.Thread | None = None
        self.is_silent = False

    @property
    def words(self) -> str:
        return self._words

    def show(self, words: str) -> None:
        words = "" if self.is_silent else words
        with self._changed:
            if self._line is not None:
                self._line.close()
                self._line = None
            self._words, self._began, self._told = words, time.monotonic(), False
            if words and output.on_terminal():
                self._line = tqdm(desc=f"{words} …", bar_format="{desc}", leave=False)
            if words and self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(_EVERY_SECONDS if self._words and not self._told else None)
                seconds = time.monotonic() - self._began
                if self._line is not None:
                    self._line.set_description_str(f"{self._words} … {seconds:.0f} s")
                elif self._words and not self._told and seconds >= _TOLD_AFTER_SECONDS:
                    self._told = True
                    output.say(f"{self._words} …")


_WAITING = _Waiting()


def show(words: str) -> None:
    """Show `words` as the program's current work until the next call; show nothing if they are empty."""
    _WAITING.show(words)


def silence() -> None:
    """Show nothing from now on: only one of several processes speaks."""
    _WAITING.is_silent = True
    show("")


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Show nothing in this context, because something else is shown."""
    words = _WAITING.words
    show("")
    try:
        yield
    finally:
        show(words)
