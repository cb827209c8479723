"""What a person sees of a run while it goes on, and the files that hold it."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from jaxcifar.host.files import read_records


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Import as if `module` were not installed."""
    found = sys.modules.get(module)
    sys.modules[module] = None
    try:
        yield
    finally:
        if found is None:
            del sys.modules[module]
        else:
            sys.modules[module] = found


# It imports PyTorch where that is installed, which takes more than a second, for what is not used here.
with _without("torch"):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary


def warn(line: str) -> None:
    """Print a warning, above the bar if there is one."""
    tqdm.write(f"warning: {line}", file=sys.stderr)


class Silent:
    """Take what `MetricsLog` and `Progress` take, and do nothing: of several processes one speaks."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


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
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(kept)
        unfinished.replace(path)
        self._file = path.open("a")
        shutil.rmtree(workdir / "tensorboard", ignore_errors=True)
        (workdir / "tensorboard").mkdir()
        # Not its SummaryWriter, whose thread a full disk ends, and the program then waits for it.
        self._events = EventsWriter(str(workdir / "tensorboard/events"))
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


class Progress:
    """Show how far training is: a bar on a terminal, lines elsewhere."""

    def __init__(self, *, epochs: int, images_per_epoch: int, images_done: int):
        self._epochs = epochs
        self._images_per_epoch = images_per_epoch
        self._total = epochs * images_per_epoch
        self._first = self._done = images_done
        self._began = time.monotonic()
        self._bar = tqdm(
            total=self._total,
            initial=images_done,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} [{elapsed}<{remaining}{postfix}]",
        )

    def advance(self, images: int, *, loss: float, accuracy: float) -> None:
        """Move on by `images`, the newest of which had this loss and accuracy."""
        epoch = min(self._done // self._images_per_epoch + 1, self._epochs)
        self._done += images
        self._bar.set_description_str(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}", refresh=False)
        self._bar.update(images)

    def log(self, values: dict[str, float]) -> None:
        """Print a line of metrics: always those of an evaluation, others only without a bar."""
        evaluated = any(name.endswith("/accuracy") and name != "train/accuracy" for name in values)
        if not (self._bar.disable or evaluated):
            return
        epoch = f"{self._done / self._images_per_epoch:.2f}".rstrip("0").rstrip(".")
        parts = [f"epoch {epoch}/{self._epochs}"]
        for split in dict.fromkeys(name.split("/")[0] for name in values if "/" in name):
            if f"{split}/accuracy" in values:
                loss, accuracy = values[f"{split}/loss"], values[f"{split}/accuracy"]
                parts.append(f"{split} loss {loss:.4f} accuracy {accuracy:.2%}")
        parts.append(f"{values['images_per_second']:,.0f} images/s")
        spent = time.monotonic() - self._began
        left = spent / max(self._done - self._first, 1) * (self._total - self._done)
        parts.append(f"{tqdm.format_interval(left)} left")
        self.say("  ".join(parts))

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        tqdm.write(line)
        sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
