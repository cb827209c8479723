"""Sends the steps of a run to the devices: an epoch's order, in dispatches."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.rows import Span, Supply
from jaxcifar.experiment.setup import Setup, beginning
from jaxcifar.step.counts import Counts
from jaxcifar.step.order import balanced_order, epoch_order, stretches
from jaxcifar.step.state import TrainState


@dataclasses.dataclass(frozen=True)
class Sent:
    """Hold the result of a dispatch that was sent to the devices, and may not have begun there."""

    step: int
    """Steps of the run that are done when it ends."""
    counts: Counts
    """[steps] each, one entry for each step of the dispatch."""


class Stepper:
    """Hold the training programs, their data and the state of a run, and send its steps."""

    state: TrainState
    """The state after all steps that were sent."""
    step: int
    """Steps of the run that were sent."""
    _supply: Iterator[Supply]
    """The inputs of the dispatches that are still to send; set, like `state`, by `begin`."""

    def __init__(self, setup: Setup, train: Dataset, steps_per_dispatch: int, step: int):
        """Trace the program that is needed first, and compile all programs in the background.

        Args:
          setup: of the run.
          train: the training split.
          steps_per_dispatch: at most; fewer at the end of an epoch.
          step: the number of steps that are already done.
        """
        self._setup, self.step, self.steps_per_dispatch = setup, step, steps_per_dispatch
        self._labels = train.labels
        self._source = source = setup.source(train, setup.config.batch_size)
        most = min(setup.layout.rows_per_dispatch, source.most_rows)
        self._every = min(steps_per_dispatch, most)
        init_key, self._key = jax.random.split(jax.random.key(setup.config.seed))
        experiment, layout = setup.experiment, setup.layout
        self._beginning = beginning(train, init_key)
        self._init = layout.traced(experiment.init_state, *self._beginning)
        self._program = setup.mapped(
            experiment.train_step,
            "training",
            Counts.empty(),
            updates_state=True,
            streamed=source.streamed,
        )
        shape = (self.steps_per_epoch, setup.config.batch_size)
        order = jax.ShapeDtypeStruct(shape, np.int32)
        arguments = lambda rows: (self._init.out_info, *source.like(rows, order), self._key)
        self._compilations: dict[int, Future] = {}
        background = ThreadPoolExecutor(1)
        for place, rows in enumerate(self._lengths()):
            # Nothing is as urgent as the first; the others are traced while it compiles and runs.
            lower = lambda rows=rows: self._program.lower(rows, *arguments(rows))
            work = lower() if place == 0 else lambda lower=lower: lower()()
            self._compilations[rows] = background.submit(work)
        background.shutdown(wait=False)

    def _spans(self) -> Iterator[Span]:
        """Yield the span of rows of each remaining dispatch."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        for each in range(epoch, self._setup.config.num_epochs):
            first = done if each == epoch else 0
            for start, stop in stretches(first, self.steps_per_epoch, self._every):
                yield Span(each, start, stop)

    def _lengths(self) -> list[int]:
        """Return the distinct lengths of the remaining dispatches, in steps, in the order of first use."""
        this_and_next = self.step // self.steps_per_epoch + 1
        spans = itertools.takewhile(lambda span: span.order <= this_and_next, self._spans())
        return list(dict.fromkeys(span.stop - span.start for span in spans))

    def begin(self, restored: Any) -> None:
        """Start from a restored `TrainState`, or from a newly drawn one if it is None."""
        if restored is None:
            restored = self._init.lower().compile()(*self._beginning)
        self.state = restored
        self._key = self._setup.layout.put(self._key)
        self._supply = self._source.supply(self._spans(), self._order)

    def wait_until_compiled(self) -> None:
        """Wait for the program that is needed first."""
        for compilation in list(self._compilations.values())[:1]:
            compilation.result()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return self._setup.experiment.steps_per_epoch

    def rest_of_epoch(self, epoch: int, stopped: Callable[[], bool]) -> Iterator[Sent]:
        """Send the remaining steps of an epoch until `stopped`, which is called before each dispatch."""
        first = epoch * self.steps_per_epoch
        for start, stop in stretches(self.step - first, self.steps_per_epoch, self._every):
            if stopped():
                return
            self._compilations[stop - start].result()
            supply = next(self._supply)
            self.state, counts = self._program(self.state, *supply, self._key)
            self.step = first + stop
            yield Sent(self.step, counts)

    def _order(self, epoch: int) -> np.ndarray:
        config, labels = self._setup.config, self._labels
        if config.sampling == "balanced":
            return balanced_order(config.seed, epoch, labels, config.batch_size)
        return epoch_order(config.seed, epoch, len(labels), config.batch_size)
