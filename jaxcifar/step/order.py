"""In which order the examples of a split are taken: rows of indices, one row a step."""

from collections.abc import Iterator

import numpy as np


def epoch_order(seed: int, epoch: int, examples: int, batch_size: int) -> np.ndarray:
    """Shuffle an epoch: [steps, batch_size] int32 indices, each at most once.

    What is left over when `batch_size` does not divide `examples` is left out, another remainder
    in every epoch.
    """
    steps = examples // batch_size
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


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
