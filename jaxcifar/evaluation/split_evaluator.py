"""Evaluates states on a whole split: padded, masked, every example counted once."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.layout import Layout
from jaxcifar.devices.mapping import one_behind
from jaxcifar.step.batch import Step, map_step
from jaxcifar.step.counts import Counts
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.step.order import padded_order
from jaxcifar.step.state import TrainState


class Evaluator:
    """Hold one split on the devices, and evaluate states on all of it."""

    def __init__(self, evaluation_step: Step, dataset: Dataset, layout: Layout, batch_size: int):
        """Place the split; `batch_size` is global, rounded up to a multiple of the devices."""
        devices = len(layout.devices)
        rows = min(batch_size, len(dataset))
        order = padded_order(len(dataset), -(-rows // devices) * devices)
        self._examples = len(dataset)
        self._data, self._order = layout.place(((dataset.images, dataset.labels), order))
        self._run = map_step(evaluation_step, layout, updates_state=False)

    def __call__(self, state: TrainState, between: Callable[[], None] = lambda: None) -> Answers:
        """Return the answers on every example, none left out or counted twice, as NumPy arrays.

        `probabilities` is [n, class] float. `between` is called after every batch, and may raise.
        """
        rows = range(len(self._order))
        parts = []
        for part in one_behind(
            self._run(state, self._data, self._order, row, row + 1) for row in rows
        ):
            parts.append(jax.device_get(part))
            between()
        counts = functools.reduce(Counts.merge, (part.counts for part in parts))
        assert counts.seen == self._examples, (counts.seen, self._examples)
        probabilities = np.concatenate([part.probabilities for part in parts])
        return Answers(counts, probabilities[: self._examples])
