"""The files that hold what a run records."""

import json
import time
from pathlib import Path

from jaxcifar.host import compat
from jaxcifar.host.files import read_records, write_text

EventsWriter, Event, Summary = compat.tensorboardx()


class MetricsLog:
    """Append one record a step to `metrics.jsonl`, and the same to TensorBoard's files.

    TensorBoard's files are made anew from the records at every start, so that both hold each step
    once, however often the run was cut off and started again.
    """

    def __init__(self, workdir: Path, *, last_step: int):
        """Open the files in `workdir`, dropping records of steps after `last_step`."""
        path = workdir / "metrics.jsonl"
        records = [record for record in read_records(path) if record["step"] <= last_step]
        kept = "".join(json.dumps(record) + "\n" for record in records)
        write_text(path, kept)
        self._file = path.open("a")
        # Absolute, for EventsWriter takes what precedes a colon for the name of a service.
        events = (workdir / "tensorboard").absolute()
        events.mkdir(exist_ok=True)  # which may be a link
        for old in events.glob("events.*"):
            old.unlink()
        self._events = EventsWriter(str(events / "events"))
        for record in records:
            self._write_events(record)
        self._flush_events()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write the values of one step, and the time in seconds since 1970."""
        record = {"step": step, "time": round(time.time(), 3)} | values
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        self._write_events(record)
        if time.monotonic() - self._flushed > 10:
            self._flush_events()

    def _flush_events(self):
        self._events.flush()
        self._flushed = time.monotonic()

    def _write_events(self, record):
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in record.items()
            if name not in ("step", "time")
        ]
        event = Event(step=record["step"], wall_time=record["time"], summary=Summary(value=values))
        self._events.write_event(event)

    def close(self) -> None:
        """Close both."""
        self._file.close()
        self._events.close()
