"""The pieces that the training loop is made of: order, pace, and sums between two records."""

import functools
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from jaxcifar.metrics import Counts

T = TypeVar("T")


def epoch_order(seed: int, epoch: int, examples: int, batch_size: int) -> np.ndarray:
    """Shuffle an epoch: [steps, batch_size] int32 indices, each at most once.

    What is left over when `batch_size` does not divide `examples` is left out, another remainder
    in every epoch.
    """
    steps = examples // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Yield each item when the next has been made: a dispatch is fetched with another under way."""
    items = iter(items)
    waiting = next(items)
    for item in items:
        yield waiting
        waiting = item
    yield waiting


def is_due(epochs_done: int, every: int, num_epochs: int) -> bool:
    """Return whether something is due after `epochs_done`: every so often, and after the last."""
    return epochs_done % every == 0 or epochs_done == num_epochs


def prefixed(evaluated: dict[str, Counts]) -> dict[str, float]:
    """Return the metrics of several splits by name, as `test/accuracy`."""
    return {
        f"{split}/{name}": value
        for split, counts in evaluated.items()
        for name, value in counts.compute().items()
    }


class Interval:
    """Sum what was counted between two records."""

    def __init__(self):
        self._begin()

    def _begin(self):
        self._parts: list[Counts] = []
        self._began = time.monotonic()

    def add(self, counts: Counts) -> None:
        """Add the counts of one dispatch."""
        self._parts.append(counts)

    def take(self) -> dict[str, float]:
        """Return the metrics of what was added, with the images a second, and begin anew."""
        counts = functools.reduce(Counts.merge, self._parts)
        seconds = time.monotonic() - self._began
        self._begin()
        return prefixed({"train": counts}) | {"images_per_second": int(counts.seen) / seconds}
