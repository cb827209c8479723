"""Adds up what training counts, and records it: on the screen, in files, for TensorBoard."""

import jax
import numpy as np

from jaxcifar.experiment.setup import Setup
from jaxcifar.host.laps import Laps
from jaxcifar.host.metrics_log import MetricsLog
from jaxcifar.host.progress import Progress, Silent
from jaxcifar.step.counts import Counts
from jaxcifar.training.interval import Interval


class Recorder:
    """Hold what was counted since the last record, and where records go."""

    interval: Interval

    def __init__(
        self,
        setup: Setup,
        interval: Interval,
        log: MetricsLog | Silent,
        progress: Progress | Silent,
        laps: Laps,
    ):
        """Go on from `interval`."""
        self.interval = interval
        self._log, self._progress, self._laps = log, progress, laps
        self._steps_per_epoch = setup.experiment.steps_per_epoch
        steps = np.arange(setup.experiment.total_steps)
        rates = setup.layout.run_once(jax.vmap(setup.experiment.schedule), steps)
        self._learning_rates = np.asarray(rates)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the step that ended as number `step`, from 1."""
        return float(self._learning_rates[step - 1])

    def add(self, counts: Counts) -> None:
        """Add the counts of a dispatch, and show them."""
        self._laps.report_first_step(self._progress.say)
        self._progress.advance(int(counts.seen), **counts.compute())
        self.interval.add(counts)

    def values(self, step: int) -> dict[str, float]:
        """Return what a record after `step` says of the interval, whose rate is taken now."""
        epoch = step / self._steps_per_epoch
        rate = self.learning_rate(step)
        return {"epoch": epoch, "learning_rate": rate} | self.interval.metrics()

    def record(self, step: int, values: dict[str, float]) -> None:
        """Write a record, and begin another interval."""
        self._log.write(step, values)
        self._progress.log(values)
        self.interval = Interval()

    def close(self) -> None:
        """Close the files, and leave the screen as it stands."""
        self._progress.close()
        self._log.close()
