"""Evaluates states on a whole split: padded, masked, every example counted once."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.mapping import one_behind
from jaxcifar.experiment.setup import Setup
from jaxcifar.step.batch import map_step
from jaxcifar.step.counts import Counts
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
        self._run = map_step(step, layout, updates_state=False)

    def __call__(self, state: TrainState, between: Callable[[], None] = lambda: None) -> Answers:
        """Return the answers on every example, none left out or counted twice, as NumPy arrays.

        `probabilities` is [n, class] float. `between` is called after every batch, and may raise.
        """
        rows = range(len(self._order))
        parts = []
        dispatches = (self._run(state, self._data, self._order, row, row + 1) for row in rows)
        for part in one_behind(dispatches):
            parts.append(jax.device_get(part))
            between()
        counts = functools.reduce(Counts.merge, (part.counts for part in parts))
        assert counts.seen == self._examples, (counts.seen, self._examples)
        probabilities = np.concatenate([part.probabilities for part in parts])
        return Answers(counts, probabilities[: self._examples])
