"""The difference between two classifiers, or two recipes, with the interval that holds the true one."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special


@dataclasses.dataclass(frozen=True)
class Difference:
    """Hold the score of one less that of another."""

    value: float
    interval: tuple[float, float]
    """Holds the true difference with 95% confidence."""
    p_value: float
    """The probability of a difference at least as large if there is no true difference."""


def of_examples(right_a: np.ndarray, right_b: np.ndarray) -> Difference:
    """Compare two classifiers on the same examples, by those that only one gets right.

    The interval is by Agresti and Min (2005), the p-value by McNemar's exact test (1947).

    Args:
      right_a: [n] bool, where the first is right.
      right_b: [n] bool, where the second is, in the same order.
    """
    a_alone = int(np.sum(right_a & ~right_b))
    b_alone = int(np.sum(right_b & ~right_a))
    examples = len(right_a)
    # Half an example is added to each of the four cells.
    apart, total = a_alone - b_alone, examples + 2
    spread = math.sqrt(a_alone + b_alone + 1 - apart**2 / total) / total
    middle, half = apart / total, 1.959964 * spread
    value = apart / examples
    interval = min(middle - half, value), max(middle + half, value)
    fewer = special.bdtr(min(a_alone, b_alone), a_alone + b_alone, 0.5)
    return Difference(value, interval, min(2 * float(fewer), 1.0))


def of_classes(right_a: np.ndarray, right_b: np.ndarray, labels: np.ndarray) -> Difference:
    """Compare the balanced accuracies of two classifiers on the same examples.

    Interval and p-value are by the normal approximation, with the classes' differences and variances as
    Agresti and Min (2005) take them.

    Args:
      right_a: [n] bool, where the first is right.
      right_b: [n] bool, where the second is, in the same order.
      labels: [n] int.
    """
    apart = right_a.astype(int) - right_b.astype(int)
    found = [apart[labels == label] for label in np.unique(labels)]
    value = float(np.mean([each.mean() for each in found]))
    middle = float(np.mean([each.sum() / (len(each) + 2) for each in found]))
    variances = [
        (np.abs(each).sum() + 1 - each.sum() ** 2 / (len(each) + 2)) / (len(each) + 2) ** 2
        for each in found
    ]
    error = math.sqrt(sum(variances)) / len(found)
    interval = min(middle - 1.959964 * error, value), max(middle + 1.959964 * error, value)
    return Difference(value, interval, 2 * float(special.ndtr(-abs(middle) / error)))


def of_runs(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare the scores of runs of two recipes under several seeds each (Welch 1947).

    Args:
      a: scores of the first, at least two.
      b: scores of the second, at least two.
    """
    means = np.mean(a), np.mean(b)
    errors = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    value, variance = float(means[0] - means[1]), float(sum(errors))
    if variance == 0:
        return Difference(value, (value, value), float(value == 0))
    degrees = variance**2 / sum(error**2 / (len(runs) - 1) for error, runs in zip(errors, (a, b)))
    half = float(special.stdtrit(degrees, 0.975)) * math.sqrt(variance)
    p_value = 2 * float(special.stdtr(degrees, -abs(value) / math.sqrt(variance)))
    return Difference(value, (value - half, value + half), p_value)
