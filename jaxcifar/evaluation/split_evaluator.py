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
from jaxcifar.devices.rows import Span
from jaxcifar.experiment.setup import Setup
from jaxcifar.step.batch import Step
from jaxcifar.step.evaluation_step import Answers
from jaxcifar.step.order import padded_order, stretches
from jaxcifar.step.state import TrainState


class Evaluator:
    """Hold one split, on the devices if it fits there, and evaluate states on all of it."""

    def __init__(self, setup: Setup, dataset: Dataset):
        """Place the split. The batch size, at most its length, is rounded up to a multiple of the devices."""
        layout, devices = setup.layout, len(setup.layout.devices)
        batch_size = min(setup.config.evaluation.batch_size, len(dataset))
        batch_size = -(-batch_size // devices) * devices
        self._order = padded_order(len(dataset), batch_size)
        self._setup, self._examples = setup, len(dataset)
        self._source = setup.source(dataset, batch_size)
        most = min(layout.rows_per_dispatch, self._source.most_rows)
        self._spans = [Span(0, *each) for each in stretches(0, len(self._order), most)]
        self._run = self._mapped(setup.experiment.evaluation_step, "evaluation")

    def _mapped(self, step: Step, part: str) -> OverRows:
        streamed = self._source.streamed
        return self._setup.mapped(
            step, part, Answers.empty(), updates_state=False, streamed=streamed
        )

    def augmented(self) -> dict[str, "Evaluator"]:
        """Return an evaluator on the same split for the config's test-time augmentation, by its name."""
        name = self._setup.config.evaluation.test_time_augmentation
        if name == "none":
            return {}
        other = copy.copy(self)
        step = self._setup.experiment.augmented_evaluation_step
        other._run = self._mapped(step, "augmented evaluation")
        return {name: other}

    def prepare(self, state: TrainState) -> Callable[[], Any]:
        """Trace the programs for states like this; return a function that compiles them in any thread."""
        order = jax.ShapeDtypeStruct(self._order.shape, self._order.dtype)
        lengths = dict.fromkeys(span.stop - span.start for span in self._spans)
        compile_each = [
            self._run.lower(rows, state, *self._source.like(rows, order)) for rows in lengths
        ]
        return lambda: [compile_() for compile_ in compile_each]

    def __call__(self, state: TrainState) -> Answers:
        """Return the answers on every example, see `send`."""
        return self.send(state)()

    def send(
        self, state: TrainState, between: Callable[[], None] = lambda: None
    ) -> Callable[[], Answers]:
        """Send the evaluation of a state to the devices.

        On a CPU the dispatches are sent when the answers are fetched. Elsewhere the next training step
        overwrites the state: so a resident split is one dispatch, and a streamed split, which takes several,
        is evaluated before this returns.

        Returns:
          A function that fetches the answers on every example, none left out or counted twice, as NumPy
          arrays; `probabilities` is [n, class] float. It calls `between`, which may raise, after every
          dispatch.
        """
        supply = self._source.supply(self._spans, lambda number: self._order)
        dispatches = (self._run(state, *each) for each in supply)
        if len(self._spans) == 1:
            dispatches = list(dispatches)
        elif self._setup.layout.rows_per_dispatch > 1:
            answers = self._fetch(dispatches, between)
            return lambda: answers
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
