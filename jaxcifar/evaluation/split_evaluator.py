"""Evaluates states on a whole split: padded, masked, every example counted once."""

import functools
import operator
from collections.abc import Callable, Iterable

import jax
import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.mapping import one_behind
from jaxcifar.experiment.setup import Setup
from jaxcifar.step.batch import map_step
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.step.order import padded_order
from jaxcifar.step.state import TrainState


class Evaluator:
    """Hold one split on the devices, and evaluate states on all of it."""

    def __init__(self, setup: Setup, dataset: Dataset, *, augmented: bool = False):
        """Place the split; if `augmented`, answer under the config's test-time augmentation.

        The config's batch size is rounded up to a multiple of the devices.
        """
        experiment, layout = setup.experiment, setup.layout
        step = experiment.augmented_evaluation_step if augmented else experiment.evaluation_step
        devices = len(layout.devices)
        batch_size = min(setup.config.evaluation.batch_size, len(dataset))
        order = padded_order(len(dataset), -(-batch_size // devices) * devices)
        self._examples = len(dataset)
        self._data, self._order = layout.put(((dataset.images, dataset.labels), order))
        self._rows_per_dispatch = layout.rows_per_dispatch
        self._run = map_step(step, layout, updates_state=False)

    def __call__(self, state: TrainState) -> Answers:
        """Return the answers on every example, see `send`."""
        return self.send(state)()

    def send(
        self, state: TrainState, between: Callable[[], None] = lambda: None
    ) -> Callable[[], Answers]:
        """Send the evaluation of a state to the devices.

        Where a dispatch holds one row, on a CPU, the rows are sent when the answers are fetched.

        Returns:
          A function that fetches the answers on every example, none left out or counted twice, as NumPy
          arrays; `probabilities` is [n, class] float. It calls `between` after every dispatch, which may
          raise.
        """
        rows = min(len(self._order), self._rows_per_dispatch)
        dispatches = (
            self._run(state, self._data, self._order, start, start + rows)
            for start in range(0, len(self._order), rows)
        )
        if rows == len(self._order):
            dispatches = list(dispatches)
        return lambda: self._fetch(dispatches, between)

    def _fetch(self, dispatches: Iterable[Answers], between: Callable[[], None]) -> Answers:
        parts = []
        for part in one_behind(dispatches):
            parts.append(jax.device_get(part))
            between()
        rows: Answers = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        counts = jax.tree.map(lambda leaf: functools.reduce(operator.add, leaf), rows.counts)
        assert counts.seen == self._examples, (counts.seen, self._examples)
        probabilities = np.concatenate(rows.probabilities)
        return Answers(counts, probabilities[: self._examples])
