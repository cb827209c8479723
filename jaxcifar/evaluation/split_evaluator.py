"""Evaluates states on a whole split: padded, masked, every example counted once."""

import copy
import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jaxcifar.data.datasets import Dataset
from jaxcifar.devices.mapping import OverRows, one_behind
from jaxcifar.experiment.setup import Setup
from jaxcifar.step.batch import Step
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.step.order import padded_order
from jaxcifar.step.state import TrainState


class Evaluator:
    """Hold one split on the devices, and evaluate states on all of it."""

    def __init__(self, setup: Setup, dataset: Dataset):
        """Place the split. The config's batch size is rounded up to a multiple of the devices."""
        layout, devices = setup.layout, len(setup.layout.devices)
        batch_size = min(setup.config.evaluation.batch_size, len(dataset))
        order = padded_order(len(dataset), -(-batch_size // devices) * devices)
        self._setup, self._examples = setup, len(dataset)
        self._data, self._order = layout.put(((dataset.images, dataset.labels), order))
        self._rows = min(len(order), layout.rows_per_dispatch)
        """In a dispatch: all, or one."""
        self._run = self._mapped(setup.experiment.evaluation_step, "evaluation")

    def _mapped(self, step: Step, part: str) -> OverRows:
        return self._setup.mapped(step, part, Answers.empty(), updates_state=False)

    def augmented(self) -> dict[str, "Evaluator"]:
        """Return what evaluates on the same split under the config's test-time augmentation, by its name."""
        name = self._setup.config.evaluation.test_time_augmentation
        if name == "none":
            return {}
        other = copy.copy(self)
        step = self._setup.experiment.augmented_evaluation_step
        other._run = self._mapped(step, "augmented evaluation")
        return {name: other}

    def prepare(self, state: TrainState) -> Callable[[], Any]:
        """Trace the program for states like this; return what compiles it, perhaps in another thread."""
        return self._run.lower(self._rows, state, self._data, self._order)

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
        dispatches = (
            self._run(state, self._data, self._order, start, start + self._rows)
            for start in range(0, len(self._order), self._rows)
        )
        if self._rows == len(self._order):
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
