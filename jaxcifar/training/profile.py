"""Profiles some dispatches of a run: JAX's trace of them, and what their kernels took."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax

from jaxcifar.devices.layout import Layout
from jaxcifar.errors import first_line
from jaxcifar.host.files import write_json
from jaxcifar.host.output import counted
from jaxcifar.host.progress import warn

_MOST_KERNELS = 200
"""In `profile.json`, whose totals cover all kernels."""

_KERNELS_OF = {
    "cpu": ("/host:CPU", ""),
    "gpu": ("/device:GPU:", "Stream"),
    "tpu": ("/device:TPU:", "XLA Ops"),
}
"""By platform, prefixes of the names of the trace's planes and lines that hold its kernels."""


class Profiler:
    """Trace the whole dispatches that cover some steps after the first dispatch, and sum up their kernels.

    A trace ends with its epoch and another begins with the next, so that none holds an evaluation. A failure
    here is only warned of, and the run goes on without a profile.
    """

    tracing = False
    """Whether dispatches sent now are profiled."""

    def __init__(
        self, steps: int | None, workdir: Path, layout: Layout, say: Callable[[str], None]
    ):
        """Take the number of steps, None for no profile; the workdir; and the function that prints.

        Of several processes, only the first traces its devices; all wait for their devices when it does.
        """
        self._steps, self._say = steps or 0, say
        self._folder, self._file = workdir / "profile", workdir / "profile.json"
        self._platform = layout.devices[0].platform
        self._active = steps is not None and layout.leads
        self._first_dispatch: int | None = None
        self._first = self._until = 0
        self._profiled, self._seconds = 0, 0.0
        self._calls, self._nanoseconds = Counter(), Counter()

    def covers(self, step: int) -> bool:
        """Return whether the dispatch after `step` is profiled; call this before each dispatch."""
        if self._first_dispatch is None:
            self._first_dispatch = step
        elif not self._until:
            self._first, self._until = step, step + self._steps
        return step < self._until

    def turn(self, on: bool, step: int) -> None:
        """Begin a trace after `step`, or end one; no work may be under way on the devices."""
        self.tracing = on
        if on:
            self._attempt(lambda: self._begin(step))
            return
        self._attempt(lambda: self._end(step))
        if step >= self._until:
            self._attempt(self._write)

    def close(self) -> None:
        """End a trace that an error has interrupted, and write the profile if that is still to do."""
        if self.tracing:
            self._attempt(jax.profiler.stop_trace)
        self._attempt(self._write)

    def _attempt(self, work: Callable[[], None]) -> None:
        """Call `work` while profiling is active; if it fails, warn and profile no more."""
        if not self._active:
            return
        try:
            work()
        except Exception as error:
            self._active = False
            warn(f"the profile cannot be made ({first_line(error)}): the run goes on without")

    def _begin(self, step: int) -> None:
        if not self._profiled:
            shutil.rmtree(self._folder / "plugins", ignore_errors=True)
            self._file.unlink(missing_ok=True)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # Python's calls would fill the trace, and slow the steps
        options.session_id = f"after_step_{step}"  # by default the second: two may share it
        jax.profiler.start_trace(self._folder, profiler_options=options)
        self._began = step, time.monotonic()

    def _end(self, step: int) -> None:
        since, began = self._began
        seconds = time.monotonic() - began
        jax.profiler.stop_trace()
        session = self._folder / f"plugins/profile/after_step_{since}"
        for file in session.glob("*.xplane.pb"):
            trace = jax.profiler.ProfileData.from_file(str(file))
            calls, nanoseconds = kernels(trace, self._platform)
            self._calls.update(calls)
            self._nanoseconds.update(nanoseconds)
        self._seconds += seconds
        self._profiled += step - since

    def _write(self) -> None:
        self._active = False
        if not self._profiled:
            warn("nothing was profiled: no whole dispatch followed the first one")
        elif not self._calls:
            warn(f"the trace in {self._folder} names no kernels: there is no table of them")
        else:
            profile = {
                "after_step": self._first,
                "steps": self._profiled,
                "seconds": self._seconds,
                "kernel_calls": self._calls.total(),
                "kernel_seconds": self._nanoseconds.total() / 1e9,
                "kernels": [
                    {"name": name, "calls": self._calls[name], "seconds": nanoseconds / 1e9}
                    for name, nanoseconds in self._nanoseconds.most_common(_MOST_KERNELS)
                ],
            }
            write_json(self._file, profile)
            self._say(
                f"profile of {counted(self._profiled, 'step')} after step {self._first}: {self._file}"
            )


def kernels(trace: Any, platform: str) -> tuple[Counter[str], Counter[str]]:
    """Sum up the kernels in a trace, over all devices and threads.

    Args:
      trace: a `jax.profiler.ProfileData`.
      platform: of the devices. On a GPU, kernels and copies are the events of its streams. On a TPU and
        a CPU, they are XLA's operations, each without the time of nested ones. On a CPU, an operation that
        several threads share is seen only in the thread that began it.

    Returns:
      The number of calls and the nanoseconds, each by kernel name.
    """
    plane_begins, line_begins = _KERNELS_OF[platform]
    calls, nanoseconds = Counter(), Counter()
    for plane in trace.planes:
        if not plane.name.startswith(plane_begins):
            continue
        for line in plane.lines:
            if not line.name.startswith(line_begins):
                continue
            events = list(line.events)
            if platform == "cpu":
                events = [event for event in events if "hlo_op" in dict(event.stats)]
            calls.update(event.name for event in events)
            for event in events:
                nanoseconds[event.name] += round(event.duration_ns)
            if platform != "gpu":
                for outer, inner in _nested(events):
                    nanoseconds[outer.name] -= round(inner.duration_ns)
    return calls, nanoseconds


def _nested(events: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each event of a line that is nested in others, after the innermost of these."""
    around = []
    for event in sorted(events, key=lambda event: (event.start_ns, -event.end_ns)):
        while around and around[-1].end_ns < event.end_ns:
            around.pop()
        if around:
            yield around[-1], event
        around.append(event)
