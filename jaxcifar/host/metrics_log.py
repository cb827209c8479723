"""The files that hold the records of a run."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jaxcifar.errors import first_line
from jaxcifar.host import compat
from jaxcifar.host.files import read_records, write_text
from jaxcifar.host.progress import warn

EventsWriter, Event, Summary, hparams = compat.tensorboardx()


Logger = Callable[[int, Mapping[str, float]], object]
"""Takes a step and the values of its record, such as `train/loss`."""


class MetricsLog:
    """Append one record a step to `metrics.jsonl`, and the same to TensorBoard's files.

    TensorBoard's files are made anew from the records at every start, so that both hold each step
    once, however often the run was cut off and started again.
    """

    def __init__(self, workdir: Path, *, last_step: int, loggers: Iterable[Logger] = ()):
        """Open the files in `workdir`, dropping records of steps after `last_step`.

        Each record that is written is given to `loggers` too; one that fails is dropped with a warning.
        """
        self._loggers = list(loggers)
        path = workdir / "metrics.jsonl"
        records = [record for record in read_records(path) if record["step"] <= last_step]
        kept = "".join(json.dumps(record) + "\n" for record in records)
        write_text(path, kept)
        self._file = path.open("a")
        # Absolute, because EventsWriter takes the text before a colon for the name of a service.
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
        for logger in tuple(self._loggers):
            try:
                logger(step, dict(values))
            except Exception as error:
                self._loggers.remove(logger)
                name = getattr(logger, "__name__", type(logger).__name__)
                warn(
                    f"the logger {name} is given no more records, for it failed at step {step} "
                    f"({type(error).__name__}: {first_line(error)})"
                )
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
        """Close the files."""
        self._file.close()
        self._events.close()


def write_summary(
    workdir: Path,
    hyperparameters: Mapping[str, bool | float | str],
    metrics: Iterable[str],
    images: Mapping[str, bytes],
    step: int,
) -> None:
    """Show a run's hyperparameters and images in TensorBoard, beside its metrics.

    Args:
      workdir: of the run.
      hyperparameters: by name.
      metrics: names of those shown beside the hyperparameters.
      images: PNG files, by the names under which they are shown.
      step: at which they are shown.
    """
    events = (workdir / "tensorboard").absolute()
    events.mkdir(exist_ok=True)
    for old in events.glob("summary.*"):
        old.unlink()
    writer = EventsWriter(str(events / "summary"))
    pictures = [
        Summary.Value(tag=name, image=Summary.Image(encoded_image_string=png))
        for name, png in images.items()
    ]
    about = hparams(dict(hyperparameters), dict.fromkeys(metrics))
    for summary in (*about, Summary(value=pictures)):
        writer.write_event(Event(step=step, wall_time=time.time(), summary=summary))
    writer.close()
