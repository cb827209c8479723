"""Where the time of a run goes, from its launch to its end."""

import time
from collections.abc import Callable

from jaxcifar.host import waiting


class Laps:
    """A clock that is started with the program."""

    def __init__(self):
        self._last = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._told = False

    def end(self, name: str, then: str = "") -> None:
        """End the current lap and name it; `then` is shown to the user during the next one."""
        now = time.monotonic()
        self._seconds[name], self._last = now - self._last, now
        waiting.show(then)

    def report_first_step(self, say: Callable[[str], None]) -> None:
        """Report the time until the first step, once."""
        if self._told:
            return
        self._told = True
        self.end("first step")
        say(f"first step after {self._listed()}")

    def report_end(self, say: Callable[[str], None]) -> None:
        """Report the total time, and the parts since the first step."""
        say(f"done after {self._listed()}")

    def _listed(self) -> str:
        total = sum(self._seconds.values())
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self._seconds.items())
        self._seconds = {"until the first step": total}
        return f"{total:.2f} s ({parts})"
