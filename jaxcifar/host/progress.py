"""The progress of a run, shown to a person."""

import contextlib
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

from jaxcifar.host import output, waiting


def warn(line: str) -> None:
    """Print a warning, above the bar if there is one."""
    output.complain("warning", line)


@contextlib.contextmanager
def bar(images: int, words: str) -> Iterator[Callable[[int], object]]:
    """Show the progress of work before training: a bar on a terminal, a line elsewhere.

    Yields:
      `advance(images)`, which moves on by that many images.
    """
    shown = output.on_terminal()
    if not shown:
        output.say(f"{words}: {images:,} images")
    options = {"unit": " images", "unit_scale": True, "leave": False, "disable": not shown}
    with waiting.hidden(), tqdm(desc=words, total=images, **options) as counted:
        yield counted.update


class Silent:
    """Accept the calls of `MetricsLog` and `Progress`, and do nothing: one of several processes speaks."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class Progress:
    """Show the progress of training: a bar on a terminal, lines elsewhere."""

    def __init__(self, *, epochs: int, images_per_epoch: int, images_done: int):
        self._epochs = epochs
        self._images_per_epoch = images_per_epoch
        self._total = epochs * images_per_epoch
        self._first = self._done = images_done
        self._began = time.monotonic()
        self._bar: tqdm | None = None

    def advance(self, images: int, *, loss: float, accuracy: float) -> None:
        """Move on by `images`, the newest of which had this loss and accuracy."""
        # Not earlier: until then the same line shows what the program is doing.
        if self._bar is None:
            self._bar = self._new_bar()
        epoch = min(self._done // self._images_per_epoch + 1, self._epochs)
        self._done += images
        self._bar.set_description_str(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}", refresh=False)
        self._bar.update(images)

    def log(self, step: int, values: dict[str, float], shown: dict[str, float]) -> None:
        """Print a line of metrics: always those of an evaluation, others only without a bar.

        Args:
          step: of the record.
          values: of the record, for a program.
          shown: those for a person.
        """
        if output.is_json():
            output.emit("record", {"step": step} | values)
            return
        evaluated = any(name.endswith("/accuracy") and name != "train/accuracy" for name in shown)
        if output.on_terminal() and not evaluated:
            return
        epoch = f"{self._done / self._images_per_epoch:.2f}".rstrip("0").rstrip(".")
        mean = "" if shown is values else " (mean)"
        parts = [f"epoch {epoch}/{self._epochs}{mean}"]
        for split in dict.fromkeys(name.split("/")[0] for name in shown if "/" in name):
            if f"{split}/accuracy" in shown:
                loss, accuracy = shown[f"{split}/loss"], shown[f"{split}/accuracy"]
                parts.append(f"{split} loss {loss:.4f} accuracy {accuracy:.2%}")
        parts.append(f"{shown['images_per_second']:,.0f} images/s")
        spent = time.monotonic() - self._began
        left = spent / max(self._done - self._first, 1) * (self._total - self._done)
        parts.append(f"{tqdm.format_interval(left)} left")
        self.say("  ".join(parts))

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        output.say(line)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _new_bar(self) -> tqdm:
        return tqdm(
            total=self._total,
            initial=self._done,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            disable=not output.on_terminal(),
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_fmt} [{elapsed}<{remaining}{postfix}]",
        )
