"""The training loop: dispatch, count, record, evaluate, save, to the end or until stopped."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcifar.devices import backend
from jaxcifar.errors import UserError
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment import agreement
from jaxcifar.experiment.setup import Setup
from jaxcifar.host.checkpoints import Checkpoints
from jaxcifar.host.signals import Stopped, Stopping
from jaxcifar.step.counts import Counts
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.training.recorder import Recorder
from jaxcifar.training.stepper import Stepper


@dataclasses.dataclass
class Loop:
    """Hold a run that is ready to go on, and take it to its end."""

    setup: Setup
    stepper: Stepper
    recorder: Recorder
    evaluators: Mapping[str, Evaluator]
    checkpoints: Checkpoints
    stopping: Stopping

    def __post_init__(self):
        self._saved = self.stepper.step

    def run(self, workdir: Path) -> dict[str, Answers]:
        """Train until all epochs are done.

        Args:
          workdir: for the words with which a stop is reported.

        Returns:
          The evaluators' answers under the last state; none if there was nothing left to do.

        Raises:
          UserError: the loss is not finite, or a checkpoint cannot be written.
          Stopped: by a signal; what was computed is saved.
        """
        # A run that ended between an epoch's checkpoint and its record goes on with that record.
        recorded = self.stepper.step - bool(self.recorder.interval.seen)
        evaluated = {}
        try:
            with self.stopping.deferred():
                for epoch in range(
                    recorded // self.stepper.steps_per_epoch, self.setup.config.num_epochs
                ):
                    self._train_epoch(epoch)
                    evaluated = self._end_epoch(epoch + 1)
                self.checkpoints.wait()
        except Stopped as stopped:
            if not self.stepper.step:
                raise
            self._save()
            self.checkpoints.wait()
            total = self.setup.experiment.total_steps
            done = f"step {self.stepper.step} of {total} is saved in {workdir}"
            raise Stopped(stopped.number, f"{done}; the same command goes on from it") from None
        finally:
            self.recorder.close()
        return evaluated

    def _train_epoch(self, epoch: int) -> None:
        """Take the steps of an epoch that are left."""
        end = (epoch + 1) * self.stepper.steps_per_epoch
        for counts in self.stepper.rest_of_epoch(epoch, self.stopping.asked):
            if not is_finite(counts):
                raise self._diverged("the loss")
            self.recorder.add(counts)
            step = self.stepper.step
            rows_done = step - epoch * self.stepper.steps_per_epoch
            if rows_done % self.setup.config.logging.every_steps == 0 and step < end:
                self.recorder.record(step, self.recorder.values(step))
        if self.stepper.step < end:
            raise self.stopping.stopped()

    def _end_epoch(self, epochs_done: int) -> dict[str, Answers]:
        """Save, evaluate and record, each if it is due; return the answers of an evaluation."""
        config = self.setup.config
        if is_due(epochs_done, config.checkpoint.every_epochs, config.num_epochs):
            self._save()
        step, evaluated = self.stepper.step, {}
        values = self.recorder.values(step)
        if is_due(epochs_done, config.evaluation.every_epochs, config.num_epochs):
            evaluated = {
                name: answer(self.stepper.state, self.stopping.check)
                for name, answer in self.evaluators.items()
            }
            values |= prefixed({name: answers.counts for name, answers in evaluated.items()})
        self.recorder.record(step, values)
        return evaluated

    def _save(self) -> None:
        step, state = self.stepper.step, self.stepper.state
        if step == self._saved:
            return
        if not is_finite(jax.device_get(state)):
            raise self._diverged("a parameter")
        facts, interval = self.setup.experiment.facts, self.recorder.interval.as_json()
        self.checkpoints.save(step, state, agreement.describe(self.setup.config, facts, interval))
        backend.give_back_freed_memory()
        self._saved = step

    def _diverged(self, what: str) -> UserError:
        step, saved = self.stepper.step, self._saved
        kept = f"the checkpoint of step {saved} stays" if saved else "there is no checkpoint yet"
        return UserError(
            f"{what} is not finite after step {step}, at a learning rate of "
            f"{self.recorder.learning_rate(step):.3g}; {kept}: lower "
            "--config.optimizer.learning_rate, lengthen --config.schedule.warmup_epochs or set "
            "--config.optimizer.clip_norm=1, in another --workdir"
        )


def is_due(epochs_done: int, every: int, num_epochs: int) -> bool:
    """Return whether something is due after `epochs_done`: every so often, and after the last."""
    return epochs_done % every == 0 or epochs_done == num_epochs


def is_finite(tree: Any) -> bool:
    """Return whether no leaf of `tree`, NumPy arrays, holds an infinity or a NaN."""
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def prefixed(evaluated: dict[str, Counts]) -> dict[str, float]:
    """Return the metrics of several splits by name, as `test/accuracy`."""
    return {
        f"{split}/{name}": value
        for split, counts in evaluated.items()
        for name, value in counts.compute().items()
    }
