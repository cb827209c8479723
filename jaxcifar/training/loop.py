"""The training loop: dispatch, count, record, evaluate, save, to the end or until stopped."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from jaxcifar.errors import UserError
from jaxcifar.evaluation.split_evaluator import Evaluator
from jaxcifar.experiment import agreement
from jaxcifar.experiment.setup import Setup
from jaxcifar.host.signals import Stopped, Stopping
from jaxcifar.step.counts import Counts
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.step.order import stretches
from jaxcifar.training.background import Background
from jaxcifar.training.profile import Profiler
from jaxcifar.training.recorder import Recorder
from jaxcifar.training.saver import NotFiniteError, Saver, Snapshot
from jaxcifar.training.stepper import Sent, Stepper


@dataclasses.dataclass(frozen=True)
class _Ending:
    """Hold what is due when an epoch ends; an accelerator has already been sent its part of the work."""

    step: int
    snapshot: Snapshot | None
    answers: Mapping[str, Callable[[], Answers]]
    """By split; each call waits for the devices."""


@dataclasses.dataclass
class Loop:
    """Hold a run that is ready to train, and train it to its end.

    An accelerator is sent its next dispatch, even of the next epoch, before the results of the last are
    fetched. On a CPU, which runs both the steps and this loop, an epoch ends before the next begins.
    """

    setup: Setup
    stepper: Stepper
    recorder: Recorder
    evaluators: Mapping[str, Evaluator]
    saver: Saver
    profiler: Profiler
    stopping: Stopping
    background: Background
    """Begins when the first dispatch is done."""

    def __post_init__(self):
        self._sent: Sent | None = None
        self._ending: _Ending | None = None
        self._evaluated: dict[str, Answers] = {}

    def run(self, workdir: Path) -> dict[str, Answers]:
        """Train until all epochs are done.

        Args:
          workdir: named in the message of a stop.

        Returns:
          The evaluators' answers under the last state; none if there was nothing left to train.

        Raises:
          UserError: the loss is not finite, or a checkpoint cannot be written.
          Stopped: by a signal; what was computed is saved.
        """
        # A run that ended between an epoch's checkpoint and its record goes on with that record.
        recorded = self.stepper.step - bool(self.recorder.interval.seen)
        epochs = range(recorded // self.stepper.steps_per_epoch, self.setup.config.num_epochs)
        self.recorder.lap()
        try:
            self._run(epochs, workdir)
        except NotFiniteError as error:
            raise self._diverged("a parameter", error.step) from error
        finally:
            self.background.begin()
            self.profiler.close()
            self.saver.close()
            self.recorder.close()
        return self._evaluated

    def _run(self, epochs: range, workdir: Path) -> None:
        try:
            with self.stopping.deferred():
                for epoch in epochs:
                    self._send_epoch(epoch)
                self._receive()
                self.saver.wait()
        except Stopped as stopped:
            if not self.stepper.step:
                raise
            self._receive()
            self._save(self._snapshot())
            self.saver.wait()
            total = self.setup.experiment.total_steps
            done = f"step {self.stepper.step} of {total} is saved in {workdir}"
            raise Stopped(stopped.number, f"{done}; the same command goes on from it") from None

    def _send_epoch(self, epoch: int) -> None:
        """Send the steps of an epoch that are left, and what is due at its end."""
        for sent in self.stepper.rest_of_epoch(epoch, self._stops):
            self._receive()
            self._sent = sent
        self._profile(False)
        if self.stepper.step < (epoch + 1) * self.stepper.steps_per_epoch:
            raise self.stopping.stopped()
        config, snapshot, answers = self.setup.config, None, {}
        one_row = self.setup.layout.rows_per_dispatch == 1
        if is_due(epoch + 1, config.checkpoint.every_epochs, config.num_epochs):
            snapshot = self._snapshot()
        if is_due(epoch + 1, config.evaluation.every_epochs, config.num_epochs):
            # On a CPU a signal stops the run between two dispatches of an evaluation. Elsewhere an
            # evaluation is one dispatch, and the run stops when the epoch is recorded.
            check = [self.stopping.check] if one_row else []
            answers = {
                name: evaluator.send(self.stepper.state, *check)
                for name, evaluator in self.evaluators.items()
            }
        self._ending = _Ending(self.stepper.step, snapshot, answers)
        if one_row:
            self._receive()

    def _stops(self) -> bool:
        """Return whether to stop before the next dispatch; if not, turn profiling on or off for it."""
        if self.stopping.asked():
            return True
        self._profile(self.profiler.covers(self.stepper.step))
        return False

    def _profile(self, on: bool) -> None:
        """Begin or end a trace if that is due; its time is not counted in a step's."""
        if on != self.profiler.tracing:
            self._receive()
            self.profiler.turn(on, self.stepper.step)
            self.recorder.lap()

    def _receive(self) -> None:
        """Fetch and record the dispatch that is under way, and end the epoch if it is its last."""
        sent, ending, self._sent, self._ending = self._sent, self._ending, None, None
        if sent is not None:
            self._count(sent)
        if ending is not None:
            self._evaluated = self._end_epoch(ending)

    def _count(self, sent: Sent) -> None:
        """Add up the counts of a dispatch's steps, and write the records that are due among them."""
        counts = jax.device_get(sent.counts)
        seconds, steps = self.recorder.lap(), len(counts.seen)
        before, per_epoch = sent.step - steps, self.stepper.steps_per_epoch
        if not (finite := np.isfinite(counts.loss_sum)).all():
            raise self._diverged("the loss", before + int(np.argmin(finite)) + 1)
        self.background.begin()
        row, every = before % per_epoch, self.setup.config.logging.every_steps
        for start, stop in stretches(row, row + steps, every):
            part = counts.of_rows(slice(start - row, stop - row))
            self.recorder.add(part, seconds * (stop - start) / steps)
            if stop % every == 0 and stop < per_epoch:
                step = before - row + stop
                self.recorder.record(step, self.recorder.values(step))

    def _end_epoch(self, ending: _Ending) -> dict[str, Answers]:
        """Save, fetch the answers of an evaluation, each if it is due, and record; return the answers."""
        ahead = self.setup.layout.rows_per_dispatch > 1
        if not ahead:
            self._save(ending.snapshot)  # before a signal can stop the evaluation
        evaluated = {name: answers() for name, answers in ending.answers.items()}
        if ahead:
            self.recorder.lap()  # the devices have begun with the dispatch that was sent ahead
            self._save(ending.snapshot)
        values = self.recorder.values(ending.step)
        values |= prefixed({name: answers.counts for name, answers in evaluated.items()})
        self.recorder.record(ending.step, values)
        if not ahead:
            self.recorder.lap()
        return evaluated

    def _save(self, snapshot: Snapshot | None) -> None:
        description = agreement.describe(
            self.setup.config,
            self.setup.experiment.facts,
            self.stepper.steps_per_dispatch,
            dataclasses.asdict(self.recorder.interval),
        )
        self.saver.save(snapshot, description)

    def _snapshot(self) -> Snapshot | None:
        return self.saver.take(self.stepper.step, self.stepper.state)

    def _diverged(self, what: str, step: int) -> UserError:
        self.saver.wait()
        saved = self.saver.saved
        kept = f"the checkpoint of step {saved} stays" if saved else "there is no checkpoint yet"
        return UserError(
            f"{what} is not finite after step {step}, at a learning rate of "
            f"{self.recorder.learning_rate(step):.3g}; {kept}: lower "
            "--config.optimizer.learning_rate, lengthen --config.schedule.warmup_epochs or set "
            "--config.optimizer.clip_norm=1, in another --workdir"
        )


def is_due(epochs_done: int, every: int, num_epochs: int) -> bool:
    """Return whether something is due after `epochs_done`: every `every` epochs, and after the last."""
    return epochs_done % every == 0 or epochs_done == num_epochs


def prefixed(evaluated: dict[str, Counts]) -> dict[str, float]:
    """Return the metrics of several splits, by name such as `test/accuracy`."""
    return {
        f"{split}/{name}": value
        for split, counts in evaluated.items()
        for name, value in counts.compute().items()
    }
