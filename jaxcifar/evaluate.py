"""Sums the counts of a whole split, and writes them down."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from jaxcifar.datasets import Dataset
from jaxcifar.metrics import Counts
from jaxcifar.parallel import Layout, OverRows
from jaxcifar.paths import write_json
from jaxcifar.state import TrainState
from jaxcifar.steps import Step, on_rows


def padded_order(examples: int, batch_size: int) -> np.ndarray:
    """Return every index once, in order, in rows: [rows, batch_size] int32, padded with -1."""
    rows = -(-examples // batch_size)
    order = np.full(rows * batch_size, -1, np.int32)
    order[:examples] = np.arange(examples)
    return order.reshape(rows, batch_size)


class Evaluator:
    """Hold one split on the devices, and evaluate states on all of it."""

    def __init__(self, evaluation_step: Step, dataset: Dataset, layout: Layout, batch_size: int):
        """Place the split; `batch_size` is global, rounded up to a multiple of the devices."""
        devices = len(layout.devices)
        order = padded_order(len(dataset), -(-batch_size // devices) * devices)
        self._examples = len(dataset)
        self._dispatches = list(layout.dispatches(0, len(order), len(order)))
        self._data, self._order = layout.place(((dataset.images, dataset.labels), order))
        self._run = OverRows(on_rows(evaluation_step), layout, updates_state=False)

    def __call__(self, state: TrainState) -> Counts:
        """Return the counts of every example, none left out or counted twice, as NumPy arrays."""
        parts = [self._run(state, self._data, self._order, *rows) for rows in self._dispatches]
        counts = jax.device_get(parts[0])
        for part in parts[1:]:
            counts = counts.merge(jax.device_get(part))
        assert counts.seen == self._examples, (counts.seen, self._examples)
        return counts


def write_evaluation(
    workdir: Path,
    counts: Counts,
    *,
    augmented: Mapping[str, Counts],
    split: str,
    step: int,
    class_names: tuple[str, ...],
) -> dict:
    """Write `evaluation.json` and return what it holds.

    `augmented` holds what was counted under test-time augmentations, by their names.

    `accuracy` is top-1 in [0, 1], `loss` the mean cross-entropy in nats, `confusion_matrix` counts
    examples by label (rows) and prediction (columns), in the order of `class_names`.
    """
    evaluation = {
        "split": split,
        "step": step,
        "examples": int(counts.seen),
        "correct": int(counts.correct),
        **counts.compute(),
        "test_time_augmentation": {
            name: {"correct": int(counts.correct), **counts.compute()}
            for name, counts in augmented.items()
        },
        "class_names": list(class_names),
        "confusion_matrix": counts.confusion.tolist(),
    }
    write_json(workdir / "evaluation.json", evaluation)
    return evaluation
