"""Adds up what training counts, and records it: on the screen, in files, for TensorBoard."""

import dataclasses
import time

import numpy as np

from jaxcifar.host.laps import Laps
from jaxcifar.host.metrics_log import MetricsLog
from jaxcifar.host.progress import Progress, Silent
from jaxcifar.step.counts import Counts


@dataclasses.dataclass
class Interval:
    """Sum the counts between two records; a run that is interrupted in between resumes from them."""

    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0

    def add(self, counts: Counts, seconds: float) -> None:
        """Add the counts of some steps, and the time that they took."""
        self.loss_sum += float(counts.loss_sum)
        self.correct += int(counts.correct)
        self.seen += int(counts.seen)
        self.seconds += seconds

    def metrics(self) -> dict[str, float]:
        """Return the metrics of what was added, with the images a second."""
        return {
            "train/loss": self.loss_sum / self.seen,
            "train/accuracy": self.correct / self.seen,
            "images_per_second": self.seen / self.seconds,
        }


class Recorder:
    """Hold the counts since the last record, and write records."""

    def __init__(
        self,
        learning_rates: np.ndarray,
        steps_per_epoch: int,
        log: MetricsLog | Silent,
        progress: Progress | Silent,
        laps: Laps,
        interval: Interval,
    ):
        """Take the learning rates of all steps, the outputs, and the counts not yet recorded."""
        self.interval = interval
        self._epoch = dataclasses.replace(interval)
        self._learning_rates, self._steps_per_epoch = learning_rates, steps_per_epoch
        self._log, self._progress, self._laps = log, progress, laps
        self._began = time.monotonic()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step number `step`, from 1."""
        return float(self._learning_rates[step - 1])

    def lap(self) -> float:
        """Return the seconds since the last lap, and begin another."""
        began, self._began = self._began, time.monotonic()
        return self._began - began

    def add(self, counts: Counts, seconds: float) -> None:
        """Add the counts of some steps, and the time that they took; show them."""
        self._laps.report_first_step(self._progress.say)
        self._progress.advance(int(counts.seen), **counts.compute())
        self.interval.add(counts, seconds)
        self._epoch.add(counts, seconds)

    def values(self, step: int) -> dict[str, float]:
        """Return the values of a record after `step`; images a second are over the time that was added."""
        done = {"epoch": step / self._steps_per_epoch, "learning_rate": self.learning_rate(step)}
        return done | self.interval.metrics()

    def record(self, step: int, values: dict[str, float]) -> None:
        """Write a record, and begin another interval; at an epoch's end, show the epoch's means."""
        self._log.write(step, values)
        shown = values
        if step % self._steps_per_epoch == 0:
            shown = values | self._epoch.metrics()
            self._epoch = Interval()
        self._progress.log(step, values, shown)
        self.interval = Interval()

    def close(self) -> None:
        """Close the files, and leave the screen as it stands."""
        self._progress.close()
        self._log.close()
