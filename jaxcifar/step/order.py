"""The order of the examples of a split: rows of indices, one row per step."""

from collections.abc import Iterator

import numpy as np


def epoch_order(seed: int, epoch: int, examples: int, batch_size: int) -> np.ndarray:
    """Shuffle an epoch: [steps, batch_size] int32 indices, each at most once.

    If `batch_size` does not divide `examples`, the remainder is left out, a different one in every epoch.
    """
    steps = examples // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def balanced_order(seed: int, epoch: int, labels: np.ndarray, batch_size: int) -> np.ndarray:
    """Shuffle an epoch with equal counts of the classes, up to one: [steps, batch_size] int32 indices.

    It has as many steps as `epoch_order`. The examples of a class come equally often, up to one; those of a
    small class several times.

    Args:
      seed: of the run.
      epoch: from 0.
      labels: [examples] int.
      batch_size: examples a step.
    """
    steps = len(labels) // batch_size
    rng = np.random.default_rng((seed, epoch))
    classes = rng.permutation(np.unique(labels))
    order = np.empty(steps * batch_size, np.int32)
    for place, label in enumerate(classes):
        # Every `len(classes)`-th position is of one class.
        wanted = len(order[place :: len(classes)])
        members = np.flatnonzero(labels == label)
        rounds = [rng.permutation(members) for _ in range(-(-wanted // len(members)))]
        order[place :: len(classes)] = np.concatenate(rounds)[:wanted]
    return rng.permutation(order).reshape(steps, batch_size)


def padded_order(examples: int, batch_size: int) -> np.ndarray:
    """Return every index once, in order, in rows: [rows, batch_size] int32, padded with -1."""
    rows = -(-examples // batch_size)
    order = np.full(rows * batch_size, -1, np.int32)
    order[:examples] = np.arange(examples)
    return order.reshape(rows, batch_size)


def stretches(start: int, stop: int, every: int) -> Iterator[tuple[int, int]]:
    """Cut rows `start` to `stop` at the multiples of `every`."""
    while start < stop:
        end = min(stop, start - start % every + every)
        yield start, end
        start = end
