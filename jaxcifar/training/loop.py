"""The training loop: dispatch, count, record, evaluate, save, to the end or until stopped."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxcifar.devices import runtime
from jaxcifar.devices.parallel import Layout, OverRows, one_behind
from jaxcifar.evaluation.evaluator import Evaluator
from jaxcifar.experiment import restore
from jaxcifar.experiment.build import Experiment
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.laps import Laps
from jaxcifar.host.progress import MetricsLog, Progress, Silent
from jaxcifar.host.signals import Stopped, Stopping
from jaxcifar.step.counts import Counts
from jaxcifar.step.order import (
    Interval,
    diverged,
    epoch_order,
    is_due,
    is_finite,
    prefixed,
)
from jaxcifar.step.state import TrainState
from jaxcifar.step.steps import Answers


@dataclasses.dataclass
class Trainer:
    """Hold a run that is ready to go on, and take it to its end."""

    config: ConfigDict
    workdir: Path
    experiment: Experiment
    layout: Layout
    program: OverRows
    """Trains over rows of an epoch's order."""
    data: tuple[jax.Array, jax.Array]
    """Images and labels, on the devices."""
    key: jax.Array
    """What every step's keys are derived from, on the devices."""
    learning_rates: np.ndarray
    """Of every step."""
    evaluators: Mapping[str, Evaluator]
    state: TrainState
    step: int
    """How many have been taken."""
    interval: Interval
    """What was counted since the last record."""
    checkpoints: Checkpoints
    log: MetricsLog | Silent
    progress: Progress | Silent
    laps: Laps
    stopping: Stopping

    def __post_init__(self):
        self._saved = self.step

    def run(self) -> dict[str, Answers]:
        """Train until all epochs are done.

        Returns:
          The evaluators' answers under the last state; none if there was nothing left to do.

        Raises:
          UserError: the loss is not finite, or a checkpoint cannot be written.
          Stopped: by a signal; what was computed is saved.
        """
        # An epoch whose checkpoint was written but not its record has that and its evaluation left to do.
        first_epoch = (self.step - bool(self.interval.seen)) // self.experiment.steps_per_epoch
        evaluated = {}
        try:
            with self.stopping.deferred():
                for epoch in range(first_epoch, self.config.num_epochs):
                    self._train_epoch(epoch)
                    evaluated = self._end_epoch(epoch + 1)
                self.checkpoints.wait()
        except Stopped as stopped:
            if not self.step:
                raise
            self._save()
            self.checkpoints.wait()
            done = f"step {self.step} of {self.experiment.total_steps} is saved in {self.workdir}"
            raise Stopped(stopped.number, f"{done}; the same command goes on from it") from None
        finally:
            self.progress.close()
            self.log.close()
        return evaluated

    def _train_epoch(self, epoch: int) -> None:
        """Take the steps of an epoch that are left."""
        config, rows = self.config, self.experiment.steps_per_epoch
        examples = self.experiment.facts.train_examples
        order = epoch_order(config.seed, epoch, examples, config.batch_size)
        dispatches = self._dispatch(self.layout.place(order), self.step - epoch * rows)
        for row, counts in one_behind(dispatches):
            counts = jax.device_get(counts)
            self.step = epoch * rows + row
            if not is_finite(counts):
                raise diverged("the loss", self.step, self._learning_rate, self._saved)
            self.laps.report_first_step(self.progress.say)
            self.progress.advance(int(counts.seen), **counts.compute())
            self.interval.add(counts)
            if row % config.logging.every_steps == 0 and row < rows:
                self._record(self._values())
        if self.step < (epoch + 1) * rows:
            raise Stopped(self.stopping.number)

    def _dispatch(self, order: jax.Array, first_row: int) -> Iterator[tuple[int, Counts]]:
        """Send the rows of an epoch from `first_row` on, and yield after which, with their counts."""
        every, rows = self.config.logging.every_steps, self.experiment.steps_per_epoch
        for start, stop in self.layout.dispatches(first_row, rows, every):
            if self.stopping.asked():
                return
            self.state, counts = self.program(self.state, self.data, order, start, stop, self.key)
            yield stop, counts

    def _end_epoch(self, epochs_done: int) -> dict[str, Answers]:
        """Save, evaluate and record, each if it is due; return the answers of an evaluation."""
        config = self.config
        if is_due(epochs_done, config.checkpoint.every_epochs, config.num_epochs):
            self._save()
        values, evaluated = self._values(), {}
        if is_due(epochs_done, config.evaluation.every_epochs, config.num_epochs):
            evaluated = {
                name: answer(self.state, self.stopping.check)
                for name, answer in self.evaluators.items()
            }
            values |= prefixed({name: answers.counts for name, answers in evaluated.items()})
        self._record(values)
        return evaluated

    @property
    def _learning_rate(self) -> float:
        return float(self.learning_rates[self.step - 1])

    def _values(self) -> dict[str, float]:
        epoch = self.step / self.experiment.steps_per_epoch
        return {"epoch": epoch, "learning_rate": self._learning_rate} | self.interval.metrics()

    def _record(self, values: dict[str, float]) -> None:
        self.log.write(self.step, values)
        self.progress.log(values)
        self.interval = Interval()

    def _save(self) -> None:
        if self.step == self._saved:
            return
        if not is_finite(jax.device_get(self.state)):
            raise diverged("a parameter", self.step, self._learning_rate, self._saved)
        described = restore.describe(self.config, self.experiment.facts, self.interval)
        self.checkpoints.save(self.step, self.state, described)
        runtime.give_back_freed_memory()
        self._saved = self.step
