"""Where the time goes from launch to the first step."""

import time
from collections.abc import Callable


class Laps:
    """A clock that is started with the program."""

    def __init__(self):
        self._last = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._told = False

    def end(self, name: str) -> None:
        """End the lap that ran since the last, and name it."""
        now = time.monotonic()
        self._seconds[name], self._last = now - self._last, now

    def report_first_step(self, say: Callable[[str], None]) -> None:
        """Say, the first time, how long it took."""
        if self._told:
            return
        self._told = True
        self.end("compilation and first step")
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self._seconds.items())
        say(f"first step after {sum(self._seconds.values()):.1f} s ({parts})")
