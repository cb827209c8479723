"""Takes the steps of a run: an epoch's order, in dispatches over the devices."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.mapping import one_behind
from jaxcifar.experiment.setup import Setup, beginning
from jaxcifar.step.batch import map_step
from jaxcifar.step.counts import Counts
from jaxcifar.step.order import epoch_order
from jaxcifar.step.state import TrainState


class Stepper:
    """Hold the training program, its data and the state of a run, and take its steps."""

    state: TrainState
    step: int
    """Steps whose counts were yielded. In `rest_of_epoch` the state is one dispatch ahead."""

    def __init__(self, setup: Setup, train: Dataset):
        """Begin to compile, in the background."""
        self._setup = setup
        self._data = (train.images, train.labels)
        init_key, self._key = jax.random.split(jax.random.key(setup.config.seed))
        experiment, layout = setup.experiment, setup.layout
        self._beginning = beginning(train, init_key)
        self._init = layout.traced(experiment.init_state, *self._beginning)
        self._program = map_step(experiment.train_step, layout, updates_state=True)
        background = ThreadPoolExecutor(1)
        arguments = (self._init.out_info, self._data, self._order(0), self._key)
        self._compilation = background.submit(self._program.compile, *arguments)
        background.shutdown(wait=False)

    def begin(self, restored: Any, step: int) -> None:
        """Go on from a `TrainState` restored after `step`, or if it is None draw that of the beginning."""
        if restored is None:
            restored = self._init.lower().compile()(*self._beginning)
        self.state = restored
        self.step = step
        self._key, self._data = self._setup.layout.put((self._key, self._data))

    def wait_until_compiled(self) -> None:
        """Wait for the training program."""
        self._compilation.result()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""
        return self._setup.experiment.steps_per_epoch

    def rest_of_epoch(self, epoch: int, stopped: Callable[[], bool]) -> Iterator[Counts]:
        """Take the steps of an epoch that are left, until `stopped`, which is asked before each dispatch.

        Yields:
          The counts of each dispatch, as NumPy arrays, when the next is under way.
        """
        first = epoch * self.steps_per_epoch
        order = self._setup.layout.put(self._order(epoch))
        for rows_done, counts in one_behind(self._dispatch(order, self.step - first, stopped)):
            counts = jax.device_get(counts)
            self.step = first + rows_done
            yield counts

    def _dispatch(self, order, first_row, stopped):
        every = self._setup.config.logging.every_steps
        for start, stop in self._setup.layout.dispatches(first_row, self.steps_per_epoch, every):
            if stopped():
                return
            self.state, counts = self._program(
                self.state, self._data, order, start, stop, self._key
            )
            yield stop, counts

    def _order(self, epoch):
        config = self._setup.config
        examples = self._setup.experiment.facts.train_examples
        return epoch_order(config.seed, epoch, examples, config.batch_size)
